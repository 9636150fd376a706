//! A reserve of space beside the registry. On a full disk not even a deletion or a checkpoint
//! works; without the reserve both do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::file::sibling;

/// Enough for the ends of turns and leases, for deletions and a checkpoint.
const BYTES: u64 = 8 * 1024 * 1024;

/// Pause between attempts to take on the reserve again.
const PAUSE: Duration = Duration::from_secs(1);

/// The reserve of space of one registry.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Kept,
    /// It is tried to take it on from then on.
    Released(Instant),
}

impl Reserve {
    pub(super) fn beside(registry: &Path) -> Self {
        Self {
            path: sibling(registry, "-reserve"),
            state: Mutex::new(State::Released(Instant::now())),
        }
    }

    /// Makes its space free; `false` if there was none.
    pub(super) fn release(&self) -> bool {
        *self.state() = State::Released(Instant::now() + PAUSE);
        fs::remove_file(&self.path).is_ok()
    }

    /// Reserves the space again, if it was free and there is enough for others too.
    pub(super) fn refill(&self) {
        let mut state = self.state();
        if matches!(*state, State::Released(from) if Instant::now() >= from) {
            *state = match allocate(&self.path) {
                Ok(()) => State::Kept,
                Err(_) => State::Released(Instant::now() + PAUSE),
            };
        }
    }

    /// True while there is no reserve.
    pub(super) fn is_released(&self) -> bool {
        matches!(*self.state(), State::Released(_))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|kept| kept.len() == BYTES) {
        return Ok(());
    }
    let disk = statvfs(path.parent().unwrap_or(Path::new("/")))?;
    if disk.f_bavail * disk.f_frsize < 2 * BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let allocated = match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
        // Some file systems only take space by writing to it.
        Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(BYTES), &mut &file).map(drop),
        allocated => allocated.map_err(io::Error::from),
    };
    // A part of it would be taken for the whole.
    allocated.inspect_err(|_| drop(fs::remove_file(path)))
}
