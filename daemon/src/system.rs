//! System calls without a safe wrapper: the only module with `unsafe`, each use with its reason.
//! Knows nothing of sessions.

use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal,
};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use crate::limits::Inherited;

/// Waits until a process has ended, which need not be our child. Returns at once if there is no
/// such process.
///
/// # Errors
/// Fails if there is no file descriptor left to watch it with.
pub async fn process_ended(pid: u32) -> io::Result<()> {
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

/// Limits malloc to a few arenas; to be called before there are threads. By default each thread
/// gets an arena, and memory freed in one cannot be used by the others.
pub(crate) fn share_memory() {
    // SAFETY: the function takes no pointer and may be called at any time from any thread.
    #[expect(unsafe_code, reason = "a function of the C library")]
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 4);
    }
}

/// Returns freed memory to the kernel, which malloc would keep for the next large job.
pub fn give_back_memory() {
    // SAFETY: the functions take no pointer and may be called at any time from any thread.
    #[expect(unsafe_code, reason = "functions of the C library")]
    #[cfg(target_env = "gnu")]
    unsafe {
        // malloc_trim leaves the top of every arena but the first. malloc raises this threshold,
        // and with it the size of that top, up to 64 MB when large blocks are freed. Reset it.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        libc::malloc_trim(0);
    }
}

/// Prepares a child: it gets back the limits that the daemon was started with, and the kernel
/// sends it SIGTERM if the daemon dies first. The thread that spawns it must live as long as the
/// daemon.
pub(crate) fn prepare_child(command: &mut Command, inherited: Option<Inherited>) {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if getppid() != Some(parent) {
            // The daemon died before this call.
            return Err(Errno::SRCH.into());
        }
        inherited.map_or(Ok(()), Inherited::restore)
    };
    // SAFETY: between fork and exec only system calls are made: no lock, no memory, no unwinding.
    #[expect(unsafe_code, reason = "code that a child runs before its program has no safe form")]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Closes descriptors inherited from the caller, such as the lock file of a script, which would
/// stay locked as long as we live. To be called before we open anything ourselves.
pub(crate) fn close_inherited() {
    // SAFETY: no owner of a descriptor beyond the standard three exists yet in this process.
    #[expect(unsafe_code, reason = "closing descriptors without an owner has no safe form")]
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}
