//! The lock that a writing CLI holds on `thread-writer-locks/<id>.lock`.

use std::path::Path;

use sessd_proto::{Live, LiveState};

use crate::process;
use crate::providers::locks::Locks;
use crate::providers::{LiveSession, listing};

/// Returns every session that a process has locked. The files outlive a kill; the kernel's locks do
/// not. `None` if the kernel does not show them.
pub(super) fn read(folder: &Path) -> Option<Vec<LiveSession>> {
    let locks = Locks::held()?;
    let mut found = Vec::new();
    for entry in listing::readable(folder) {
        let (name, path) = (entry.name(), entry.path());
        let Some(id) = name.strip_suffix(".lock") else { continue };
        found.extend(locks.writer(&path).map(|pid| session(id, pid)));
    }
    Some(found)
}

/// The state is `open`: the lock does not tell a working CLI from an idle one.
fn session(id: &str, pid: u32) -> LiveSession {
    let what = process::command(pid);
    let live = Live { state: LiveState::Open, pid: Some(pid), what, since: None };
    LiveSession { provider_session_id: id.to_owned(), scope: None, live }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lock_file_counts_only_while_it_is_locked() {
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
}
