//! The service behind the listener: the registry with its jobs, or the fault that prevented it.
//! Knows no socket and no dialect.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sessd_proto::paths::Paths;
use sessd_proto::{Fault, Timestamp};
use tokio::sync::watch;

use crate::clock::now;
use crate::jobs::Jobs;
use crate::registry::Registry;

/// The registry with its jobs, or the fault that kept it from being opened.
pub type State = Result<(Arc<Registry>, Arc<Jobs>), Fault>;

/// The daemon as its clients see it, for one run.
pub struct Service {
    /// The daemon's paths.
    pub paths: Paths,
    pub(super) started_at: Timestamp,
    state: Mutex<State>,
    ending: watch::Sender<bool>,
}

impl Service {
    /// Serves a registry, or the fault that kept it from being opened.
    #[must_use]
    pub fn new(paths: Paths, state: State) -> Arc<Self> {
        let (state, ending) = (Mutex::new(state), watch::Sender::new(false));
        Arc::new(Self { paths, started_at: now(), state, ending })
    }

    /// Returns the registry and its jobs.
    ///
    /// # Errors
    /// While the daemon is degraded: the fault that kept the registry from being opened.
    pub fn ready(&self) -> State {
        self.state().clone()
    }

    /// Replaces the state: requests that arrive from now on see this one.
    pub fn replace(&self, state: State) {
        *self.state() = state;
    }

    /// Makes [`serve`](super::serve) return once the requests in flight are answered.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Returns a channel that turns true once the daemon is to end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// True if there are turns to finish.
    pub(super) fn is_busy(&self) -> bool {
        self.state().as_ref().is_ok_and(|(registry, _)| registry.turns.has_unfinished())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
