//! File locks as the kernel lists them, with the processes that hold them. Knows no provider.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// All file locks that are held.
pub struct Locks(Vec<Held>);

/// One of them.
#[derive(Debug, PartialEq)]
struct Held {
    pid: u32,
    inode: u64,
    writes: bool,
}

impl Locks {
    /// Reads all of them; `None` if the kernel does not show them.
    #[must_use]
    pub fn held() -> Option<Self> {
        let text = fs::read_to_string("/proc/locks").ok()?;
        Some(Self(text.lines().filter_map(parse).collect()))
    }

    /// Returns the process that holds an exclusive lock on a file.
    #[must_use]
    pub fn writer(&self, path: &Path) -> Option<u32> {
        self.holder(path, |held| held.writes)
    }

    /// Returns a process other than this one that holds any lock on a file.
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

/// Parses a line of `/proc/locks`: `6: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
/// A process that only waits for a lock has an arrow before the kind.
fn parse(line: &str) -> Option<Held> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK" | "POSIX" | "OFDLCK", _, how, pid, file, ..] = words[..] else {
        return None;
    };
    let pid = pid.parse().ok()?;
    let inode = file.rsplit(':').next()?.parse().ok()?;
    Some(Held { pid, inode, writes: how == "WRITE" })
}

/// True if the process has the file open. This is needed because inode numbers repeat across file
/// systems, and some show another device here than in `stat`. A process that we may not inspect
/// counts as the holder, to be safe.
fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_lock_is_not_holding_it() {
        let held = Held { pid: 12, inode: 34, writes: true };
        assert_eq!(parse("1: FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), Some(held));
        assert_eq!(parse("1: -> FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), None);
        let reads = parse("1: POSIX  ADVISORY  READ 12 fe:00:34 128 128");
        assert_eq!(reads, Some(Held { pid: 12, inode: 34, writes: false }));
    }
}
