//! What the system offers only without safety: the one module with `unsafe`, each with its
//! reason. Knows nothing of sessions.

use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal,
};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use crate::limits::Inherited;

/// Returns when a process has ended that need not be our child; at once if it is not there.
///
/// # Errors
/// When there are no descriptors left to watch it with.
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

/// Lets threads share what they allocate from, before there are any: by default each of a large
/// piece of work has its own, which keeps what the others could use.
pub(crate) fn share_memory() {
    // SAFETY: the function takes no pointer and may be called at any time from any thread.
    #[expect(unsafe_code, reason = "a function of the C library")]
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 4);
    }
}

/// Gives memory that was freed back to the kernel. The allocator keeps what a large piece of
/// work needed, as if the next one came at once.
pub fn give_back_memory() {
    // SAFETY: the functions take no pointer and may be called at any time from any thread.
    #[expect(unsafe_code, reason = "functions of the C library")]
    #[cfg(target_env = "gnu")]
    unsafe {
        // What it keeps at the end of each arena but the first, up to 64 MB once a large block was
        // freed, is not given back by the next call. From now on that is what it began with.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        libc::malloc_trim(0);
    }
}

/// Has a child, once it is started, get the limits back that the daemon was started with, and
/// asked to end by the kernel if the daemon dies before it. The thread that starts it must live as
/// long as the daemon.
pub(crate) fn prepare_child(command: &mut Command, inherited: Option<Inherited>) {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if getppid() != Some(parent) {
            // It died before it was asked.
            return Err(Errno::SRCH.into());
        }
        inherited.map_or(Ok(()), Inherited::restore)
    };
    // SAFETY: between fork and exec only system calls are made: no lock, no memory, no unwinding.
    #[expect(unsafe_code, reason = "what a child does before its program begins has no safe form")]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Closes what a caller has left open for us without wanting to, such as the lock of a script
/// that would wait for our end. To be called before anything of our own is open.
pub(crate) fn close_inherited() {
    // SAFETY: no owner of a descriptor beyond the standard three exists yet in this process.
    #[expect(unsafe_code, reason = "closing descriptors that nobody owns has no safe form")]
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}
