//! A disk-space reserve: a file beside the registry that is deleted when the disk is full. Even a
//! deletion or a checkpoint needs space; the freed space lets both succeed. Knows no SQLite.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::file::sibling;

/// Size of the reserve: enough to record the ends of turns and leases, and for deletions and a
/// checkpoint.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Pause between attempts to allocate the reserve again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The disk-space reserve of one registry.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Allocated,
    /// Released; retry the reservation from this instant on.
    Released(Instant),
}

impl Reserve {
    pub(super) fn beside(registry: &Path) -> Self {
        Self {
            path: sibling(registry, "-reserve"),
            state: Mutex::new(State::Released(Instant::now())),
        }
    }

    /// Frees the reserve; `false` if it was already gone.
    pub(super) fn release(&self) -> bool {
        *self.state() = State::Released(Instant::now() + RETRY_INTERVAL);
        fs::remove_file(&self.path).is_ok()
    }

    /// Allocates the reserve again if it was released and the disk has room for it.
    pub(super) fn refill(&self) {
        let mut state = self.state();
        if matches!(*state, State::Released(from) if Instant::now() >= from) {
            *state = match allocate(&self.path) {
                Ok(()) => State::Allocated,
                Err(_) => State::Released(Instant::now() + RETRY_INTERVAL),
            };
        }
    }

    /// True while the reserve is released.
    pub(super) fn is_released(&self) -> bool {
        matches!(*self.state(), State::Released(_))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|kept| kept.len() == RESERVE_BYTES) {
        return Ok(());
    }
    let disk = statvfs(path.parent().unwrap_or(Path::new("/")))?;
    if disk.f_bavail * disk.f_frsize < 2 * RESERVE_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let allocated = match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
        // Some file systems cannot allocate space without writing to it.
        Err(Errno::OPNOTSUPP) => {
            io::copy(&mut io::repeat(0).take(RESERVE_BYTES), &mut &file).map(drop)
        }
        allocated => allocated.map_err(io::Error::from),
    };
    // A partial file would look like the whole reserve.
    allocated.inspect_err(|_| drop(fs::remove_file(path)))
}
