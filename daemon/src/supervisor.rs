//! The service manager that started us, if any: the socket it passes, the notifications it
//! expects, and whether it collects our log. The protocols are systemd's.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use sessd_proto::{Environment, Fault, FaultCode};

/// The service manager; the default is none.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<Passed>,
    is_told: bool,
    watchdog: Option<Duration>,
}

/// A socket that the service manager made, and keeps open when we exit.
#[derive(Debug)]
pub struct Passed {
    /// Already listening.
    pub listener: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

impl Supervisor {
    /// Reads the environment. To be called once, before there are threads.
    ///
    /// # Errors
    /// Fails if the descriptors passed are not one Unix socket with a path.
    pub fn of_process(env: &Environment) -> Result<Self, Fault> {
        Ok(Self {
            socket: take_passed_socket()?,
            is_told: env.get("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled().filter(|period| !period.is_zero()),
        })
    }

    /// Returns the socket that was passed, on the first call.
    pub fn take_socket(&mut self) -> Option<Passed> {
        self.socket.take()
    }

    /// Returns the path of the socket that was passed.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.socket.as_ref().map(|passed| passed.path.clone())
    }

    /// Returns the interval at which the watchdog is notified; half of what it allows.
    #[must_use]
    pub fn pulse(&self) -> Option<Duration> {
        self.watchdog.map(|period| period / 2)
    }

    /// Reports that the daemon serves; `status` is shown by `systemctl status`.
    pub fn tell_ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Notifies the watchdog. To be called from the loop that serves, so that a hang is noticed.
    pub fn tell_alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// Reports that the daemon is shutting down.
    pub fn tell_ending(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Sends a notification. `sd_notify` finds the address in the environment by itself.
    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.is_told
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!("cannot notify the service manager: {error}");
        }
    }
}

/// Takes all sockets that were passed, so that no child inherits them, and returns the only one.
fn take_passed_socket() -> Result<Option<Passed>, Fault> {
    let unusable = |why: String| {
        Fault::new(FaultCode::Environment, format!("the socket of the service manager: {why}"))
            .hint("the unit sessd.socket needs one `ListenStream=` with an absolute path")
    };
    let mut descriptors = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..descriptors.len() {
        let taken = descriptors.take_unix_listener(at);
        sockets.extend(taken.map_err(|error| unusable(error.to_string()))?);
    }
    if sockets.len() > 1 {
        return Err(unusable(format!("{} were passed", sockets.len())));
    }
    let Some(listener) = sockets.pop() else { return Ok(None) };
    let address = listener.local_addr().map_err(Fault::internal)?;
    let path = address.as_pathname().ok_or_else(|| unusable("it has no path".to_owned()))?;
    Ok(Some(Passed { path: path.to_owned(), listener }))
}

/// True if standard error is connected to the journal.
#[must_use]
pub fn has_journal(env: &Environment) -> bool {
    let stream = env.get("JOURNAL_STREAM").and_then(|stream| stream.split_once(':'));
    let named = stream.and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    // A child of a unit inherits the variable, but its standard error may be something else.
    let actual = std::fs::metadata("/proc/self/fd/2").map(|meta| (meta.dev(), meta.ino())).ok();
    named.is_some() && named == actual
}
