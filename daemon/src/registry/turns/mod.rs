//! Turns: one prompt and everything that comes back. The top floor of the registry. It must not
//! know which dialect a caller speaks.
//!
//! `accept` checks a prompt for free and stores it as a queued turn, `run` takes turns from the
//! queue one at a time per session, `record` stores the output while it streams in, `outcome`
//! decides whether the turn succeeded, `stop` ends turns early and recovers after a crash, `output`
//! serves readers.
//!
//! Between acceptance and run the turn is read back from the store and its session is checked a
//! second time. Both are deliberate: the daemon may have been restarted in between, and another
//! process may have changed the session.

use std::sync::Arc;

use crate::config::Config;
use crate::environment::DaemonEnvironment;
use crate::registry::discovery::Discovery;
use crate::registry::homes::Homes;
use crate::registry::launch::Launches;
use crate::registry::sessions::Sessions;
use crate::registry::writers::Writers;
use crate::store::Store;

mod accept;
mod outcome;
mod output;
mod prompt;
mod record;
mod run;
mod stop;

/// Accepts and runs turns.
#[derive(Debug)]
pub(crate) struct Turns {
    store: Arc<Store>,
    config: Arc<Config>,
    env: Arc<DaemonEnvironment>,
    homes: Arc<Homes>,
    writers: Arc<Writers>,
    discovery: Arc<Discovery>,
    sessions: Arc<Sessions>,
    launches: Arc<Launches>,
}

/// The fields of [`Turns`].
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) config: Arc<Config>,
    pub(crate) env: Arc<DaemonEnvironment>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) writers: Arc<Writers>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) launches: Arc<Launches>,
}

impl Turns {
    /// Creates the floor over those below it.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { store, config, env, homes, writers, discovery, sessions, launches } = parts;
        Arc::new(Self { store, config, env, homes, writers, discovery, sessions, launches })
    }

    /// True while turns wait or run.
    #[must_use]
    pub(crate) fn has_unfinished(&self) -> bool {
        self.writers.queues.has_any()
    }
}
