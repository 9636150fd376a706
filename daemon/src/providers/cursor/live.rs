//! Which processes have a chat's store open, and whether they are working: the write-ahead log has
//! content during a turn and is empty after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sessd_proto::{Live, LiveState, Timestamp};

use super::discovery::id_of;
use crate::process;
use crate::providers::locks::Locks;
use crate::providers::{Listed, LiveSession};

/// Returns every chat that a process has locked. A log outlives a kill; the kernel's locks do not.
/// `None` if the kernel does not show them.
pub(super) fn read(listed: &[Listed]) -> Option<Vec<LiveSession>> {
    let locks = Locks::held()?;
    let stores = listed.iter().map(|entry| Path::new(&entry.location));
    Some(stores.filter_map(|store| session(store, &locks)).collect())
}

fn session(store: &Path, locks: &Locks) -> Option<LiveSession> {
    let beside = |ending: &str| PathBuf::from(format!("{}{ending}", store.display()));
    // Every process that has it open holds a lock in the index of the log.
    let pid = locks.user(&beside("-shm")).or_else(|| locks.user(store))?;
    let log = fs::metadata(beside("-wal")).ok().filter(|log| log.len() > 0);
    let since = log.as_ref().and_then(|log| log.created().ok());
    let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let live = Live {
        state: if log.is_some() { LiveState::Busy } else { LiveState::Open },
        pid: Some(pid),
        what: process::command(pid),
        since: since.and_then(|at| i64::try_from(at.as_millis()).ok()).map(Timestamp),
    };
    Some(LiveSession { provider_session_id: id_of(store)?, scope: None, live })
}
