//! File locks, as the kernel lists them, and who holds them. Knows no provider.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The locks that are held.
pub struct Locks(Vec<Held>);

/// A lock that the kernel knows.
#[derive(Debug, PartialEq)]
struct Held {
    pid: u32,
    inode: u64,
    writes: bool,
}

impl Locks {
    /// All of them; `None` if the kernel does not show them.
    #[must_use]
    pub fn held() -> Option<Self> {
        let text = fs::read_to_string("/proc/locks").ok()?;
        Some(Self(text.lines().filter_map(parse).collect()))
    }

    /// A process that has locked a file against every other.
    #[must_use]
    pub fn writer(&self, path: &Path) -> Option<u32> {
        self.holder(path, |held| held.writes)
    }

    /// A process other than this one that has locked a file in any way.
    #[must_use]
    pub fn user(&self, path: &Path) -> Option<u32> {
        self.holder(path, |held| held.pid != std::process::id())
    }

    fn holder(&self, path: &Path, counts: impl Fn(&Held) -> bool) -> Option<u32> {
        let inode = fs::metadata(path).ok()?.ino();
        let of_it = self.0.iter().filter(|held| held.inode == inode && counts(held));
        of_it.map(|held| held.pid).find(|pid| has_open(*pid, path))
    }
}

/// A line of `/proc/locks`: `6: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
/// Who only waits for a lock has an arrow before its kind.
fn parse(line: &str) -> Option<Held> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK" | "POSIX" | "OFDLCK", _, how, pid, file, ..] = words[..] else {
        return None;
    };
    let pid = pid.parse().ok()?;
    let inode = file.rsplit(':').next()?.parse().ok()?;
    Some(Held { pid, inode, writes: how == "WRITE" })
}

/// Inode numbers repeat across file systems, and some show another device here than in `stat`.
/// A process we may not look into is believed to be the holder: too careful is safe.
fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_that_is_held_counts() {
        let held = Held { pid: 12, inode: 34, writes: true };
        assert_eq!(parse("1: FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), Some(held));
        assert_eq!(parse("1: -> FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), None);
        let reads = parse("1: POSIX  ADVISORY  READ 12 fe:00:34 128 128");
        assert_eq!(reads, Some(Held { pid: 12, inode: 34, writes: false }));
    }
}
