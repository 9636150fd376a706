//! The lock that a writing CLI holds on `thread-writer-locks/<id>.lock`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sessd_proto::{Live, LiveState};

use crate::process;
use crate::providers::{LiveSession, listing};

/// A lock that the kernel knows.
#[derive(Debug, PartialEq)]
struct Held {
    pid: u32,
    inode: u64,
}

/// Every session that a process holds. The files outlive a kill; the kernel's locks do not.
/// `None` if the kernel does not show them.
pub(super) fn read(folder: &Path) -> Option<Vec<LiveSession>> {
    let held: Vec<Held> =
        fs::read_to_string("/proc/locks").ok()?.lines().filter_map(parse).collect();
    let entries = listing::entries(folder).ok()?;
    let mut found = Vec::new();
    for entry in entries {
        let (name, path) = (entry.name(), entry.path());
        let Some(id) = name.strip_suffix(".lock") else { continue };
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let holder =
            held.iter().find(|lock| lock.inode == metadata.ino() && has_open(lock.pid, &path));
        found.extend(holder.map(|lock| session(id, lock.pid)));
    }
    Some(found)
}

/// The state is `open`: the lock does not tell a working CLI from one that waits.
fn session(id: &str, pid: u32) -> LiveSession {
    let what = process::command(pid);
    let live = Live { state: LiveState::Open, pid: Some(pid), what, since: None };
    LiveSession { provider_session_id: id.to_owned(), scope: None, live }
}

/// A line of `/proc/locks`: `6: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`.
/// Who only waits for a lock has an arrow before its kind.
fn parse(line: &str) -> Option<Held> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK" | "POSIX" | "OFDLCK", _, "WRITE", pid, file, ..] = words[..] else {
        return None;
    };
    let pid = pid.parse().ok()?;
    let inode = file.rsplit(':').next()?.parse().ok()?;
    Some(Held { pid, inode })
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
    fn a_lock_file_counts_only_while_it_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let lock = fs::File::create(folder.path().join("held.lock")).unwrap();
        fs::write(folder.path().join("left-behind.lock"), "").unwrap();
        fs::write(folder.path().join(".coordination.lock"), "").unwrap();
        assert_eq!(read(folder.path()), Some(vec![]));
        lock.lock().unwrap();
        let found = read(folder.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].provider_session_id, "held");
        assert_eq!(found[0].live.pid, Some(std::process::id()));
        drop(lock);
        assert_eq!(read(folder.path()), Some(vec![]));
        assert_eq!(read(&folder.path().join("none")), Some(vec![]));
    }

    #[test]
    fn only_the_holder_of_a_writing_lock_counts() {
        let held = Held { pid: 12, inode: 34 };
        assert_eq!(parse("1: FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), Some(held));
        assert_eq!(parse("1: -> FLOCK  ADVISORY  WRITE 12 fe:00:34 0 EOF"), None);
        assert_eq!(parse("1: POSIX  ADVISORY  READ 12 fe:00:34 0 EOF"), None);
    }
}
