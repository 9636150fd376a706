//! Discovery: reads the transcripts on disk into the registry, and decides which sessions can be
//! resumed.
//!
//! A *sweep* stats every transcript of a home and reads those that changed; a *check* asks a
//! provider about one session. Both end in a verdict (status and reason) that is stored. Knows
//! homes and writers; knows nothing of selectors, launches and turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Config;
use crate::environment::DaemonEnvironment;
use crate::providers::Listed;
use crate::registry::homes::Homes;
use crate::registry::writers::Writers;
use crate::store::Store;
use succession::Succession;

pub(crate) mod bind;
pub(crate) mod caller;
pub(crate) mod directory;
mod gone;
pub(crate) mod heartbeat;
pub(crate) mod import;
mod names;
mod round;
mod succession;
pub(crate) mod sweep;
pub(crate) mod verdict;

/// How long a listing waits for the first sweep after the start.
const FIRST_SWEEP_TIMEOUT: Duration = Duration::from_secs(4);

/// Sweeps homes and checks sessions.
#[derive(Debug)]
pub(crate) struct Discovery {
    store: Arc<Store>,
    config: Arc<Config>,
    env: Arc<DaemonEnvironment>,
    homes: Arc<Homes>,
    writers: Arc<Writers>,
    /// Held during a sweep of the homes of one provider: two sweeps would import the same
    /// transcripts twice.
    sweeping: Arc<tokio::sync::Mutex<()>>,
    /// Transcripts that the first sweep has seen, by home, to be stored after it.
    imported: Mutex<HashMap<i64, Vec<Listed>>>,
    /// Conversations that went on in another session, until both are in the registry.
    successions: Mutex<Vec<Succession>>,
    /// The providers with several homes: true if no transcript has names in two of them.
    apart: Mutex<HashMap<&'static str, bool>>,
    swept: watch::Sender<bool>,
}

impl Discovery {
    /// Creates the floor over those below it, with no home swept yet.
    pub(crate) fn new(
        store: Arc<Store>,
        config: Arc<Config>,
        env: Arc<DaemonEnvironment>,
        homes: Arc<Homes>,
        writers: Arc<Writers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            config,
            env,
            homes,
            writers,
            sweeping: Arc::default(),
            imported: Mutex::default(),
            successions: Mutex::default(),
            apart: Mutex::default(),
            swept: watch::Sender::new(false),
        })
    }

    fn apart(&self) -> MutexGuard<'_, HashMap<&'static str, bool>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once every home was swept since the start.
    #[must_use]
    pub(crate) fn has_swept(&self) -> bool {
        *self.swept.borrow()
    }

    /// Waits for the end of the first sweep since the start, at most 4 s; true if it has ended.
    pub(crate) async fn wait_for_first_sweep(&self) -> bool {
        let mut swept = self.swept.subscribe();
        let ended = swept.wait_for(|swept| *swept);
        tokio::time::timeout(FIRST_SWEEP_TIMEOUT, ended).await.is_ok()
    }
}
