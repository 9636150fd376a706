//! Kinds of records that a reader does not know: they are skipped, but counted, so that a change of
//! a format is noticed. In memory only, since the start of the daemon. Knows no provider.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Unknown kinds that are remembered for one provider; further ones are not.
const KINDS_MAX: usize = 32;

/// Longest name that is remembered, in bytes: a record without a proper type may hold anything.
const NAME_MAX: usize = 64;

/// The kinds of records of one provider.
#[derive(Debug)]
pub struct Kinds {
    /// The names that are known, in alphabetical order.
    known: &'static [&'static str],
    seen: Mutex<BTreeSet<String>>,
}

impl Kinds {
    /// Creates the set of a provider; `known` is in alphabetical order.
    #[must_use]
    pub const fn new(known: &'static [&'static str]) -> Self {
        Self { known, seen: Mutex::new(BTreeSet::new()) }
    }

    /// True if the kind is known.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.known.binary_search(&kind).is_ok()
    }

    /// Notes the kind of a record that was read.
    pub fn note(&self, kind: &str) {
        if self.knows(kind) || !is_name(kind) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < KINDS_MAX && !seen.contains(kind) {
            seen.insert(kind.to_owned());
        }
    }

    /// Returns the unknown kinds that were seen.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().cloned().collect()
    }
}

/// True for a name as programs give them: it can be shown as it is.
fn is_name(kind: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./:$".contains(c);
    !kind.is_empty() && kind.len() <= NAME_MAX && kind.chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_are_counted_once_and_bounded() {
        let kinds = Kinds::new(&["assistant", "user"]);
        ["user", "assistant", "later", "later", "", "a\nb"].iter().for_each(|it| kinds.note(it));
        assert_eq!(kinds.unknown(), ["later"]);
        (0..1_000).for_each(|number| kinds.note(&format!("kind-{number}")));
        kinds.note(&"x".repeat(NAME_MAX + 1));
        assert_eq!(kinds.unknown().len(), KINDS_MAX);
    }
}
