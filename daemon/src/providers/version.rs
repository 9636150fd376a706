//! Versions of programs, and rules that hold from one version on. Knows no provider.

use std::fmt;

/// The version of a program: the three numbers of `2.1.332`. What follows them is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Parses `2.1.332`, with or without a suffix such as `-beta.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let mut numbers = text[..end].splitn(3, '.').map(|number| number.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// True if a program has something that came with version `since`; `None` stands for something
/// that every version has. A program whose version is not known counts as the newest.
#[must_use]
pub fn has(program: Option<Version>, since: Option<Version>) -> bool {
    match (program, since) {
        (Some(program), Some(since)) => program >= since,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_ordered_by_number() {
        assert_eq!(Version::parse("2.1.332"), Some(Version(2, 1, 332)));
        assert_eq!(Version::parse("0.24.4-nightly.1+x"), Some(Version(0, 24, 4)));
        for text in ["", "1", "1.2", "1.2.x", "v1.2.3", "latest", "1.2.3.4"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert!(Version(0, 9, 9) < Version(0, 15, 0));
        assert_eq!(Version(1, 2, 3).to_string(), "1.2.3");
    }

    #[test]
    fn unknown_version_counts_as_the_newest() {
        let since = Some(Version(0, 24, 0));
        assert!(has(None, since) && has(Some(Version(0, 24, 0)), since) && has(None, None));
        assert!(!has(Some(Version(0, 15, 10)), since));
    }
}
