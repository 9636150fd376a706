//! Waiting for the end of a process that is not our child. The only module with `unsafe`.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

/// Returns when the process has ended; at once if it is not there.
///
/// # Errors
/// When there are no descriptors left to watch it with.
pub async fn ended(pid: u32) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // SAFETY: the descriptor is owned and moves into the registration, which ends before the
    // descriptor is closed; nothing else can close it.
    #[expect(unsafe_code, reason = "tokio's registration of a descriptor has no safe form")]
    let registered = unsafe { AsyncFd::register(pidfd) };
    let _ready = registered?.readable().await?;
    Ok(())
}
