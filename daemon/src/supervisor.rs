//! The service manager that started us, if one did: the socket it passes, what it wants to be
//! told, and whether it collects our log. The protocols are systemd's; others speak them too.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use sessd_proto::{Environment, Fault, FaultCode};

/// The service manager; by default none.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<Passed>,
    is_told: bool,
    watchdog: Option<Duration>,
}

/// A socket that the service manager made, and keeps when we end.
#[derive(Debug)]
pub struct Passed {
    /// It listens already.
    pub listener: UnixListener,
    /// Its name.
    pub path: PathBuf,
}

impl Supervisor {
    /// What the environment says. To be called once, before there is any thread.
    ///
    /// # Errors
    /// When what was passed is no Unix socket with a name.
    pub fn of_process(env: &Environment) -> Result<Self, Fault> {
        Ok(Self {
            socket: passed()?,
            is_told: env.get("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled().filter(|period| !period.is_zero()),
        })
    }

    /// The socket that was passed, once.
    pub fn take_socket(&mut self) -> Option<Passed> {
        self.socket.take()
    }

    /// The name of the socket that was passed.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.socket.as_ref().map(|passed| passed.path.clone())
    }

    /// How often it must hear that we are well.
    #[must_use]
    pub fn pulse(&self) -> Option<Duration> {
        self.watchdog.map(|period| period / 2)
    }

    /// We answer; the status is for people.
    pub fn tell_ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// We are well. Whoever says so must be who would hang.
    pub fn tell_alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// We take no more requests.
    pub fn tell_ending(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// The crate looks up in the environment whom to tell; whether to tell anybody is a value.
    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.is_told
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!("the service manager cannot be told: {error}");
        }
    }
}

/// All that was passed is taken, so that no child gets it; one of it is served.
fn passed() -> Result<Option<Passed>, Fault> {
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
        return Err(unusable(format!("there are {} of them", sockets.len())));
    }
    let Some(listener) = sockets.pop() else { return Ok(None) };
    let address = listener.local_addr().map_err(Fault::internal)?;
    let path = address.as_pathname().ok_or_else(|| unusable("it has no path".to_owned()))?;
    Ok(Some(Passed { path: path.to_owned(), listener }))
}

/// True if standard error goes to the journal, which keeps the time and takes priorities.
#[must_use]
pub fn has_journal(env: &Environment) -> bool {
    let stream = env.get("JOURNAL_STREAM").and_then(|stream| stream.split_once(':'));
    let named = stream.and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    // A child of a unit inherits the variable, but may have another standard error.
    let actual = std::fs::metadata("/proc/self/fd/2").map(|meta| (meta.dev(), meta.ino())).ok();
    named.is_some() && named == actual
}
