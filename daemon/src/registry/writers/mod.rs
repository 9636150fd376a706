//! Writers: which process may write a session now. "One writer per session" lives here.
//!
//! Live state, leases and the turn queues stand together because each alone is not enough: a
//! process that sessd did not start shows only in live state, a process that sessd started holds a
//! lease, and a turn that waits holds neither. Knows homes; knows nothing of how a session is
//! discovered, started or sent to.

use std::sync::Arc;

use crate::copies::Copies;
use crate::registry::homes::Homes;
use crate::store::Store;
use queue::Queues;

pub(crate) mod leases;
pub(crate) mod live;
pub(crate) mod queue;
pub(crate) mod upkeep;

/// Live state, leases and queues of every session.
#[derive(Debug)]
pub(crate) struct Writers {
    store: Arc<Store>,
    homes: Arc<Homes>,
    /// Copies of the provider files that runs change.
    pub(crate) copies: Copies,
    /// Turns that wait or run.
    pub(crate) queues: Queues,
}

impl Writers {
    /// Starts with empty queues that run at most `turns_per_provider` turns of a provider at once.
    pub(crate) fn new(
        store: Arc<Store>,
        homes: Arc<Homes>,
        copies: Copies,
        turns_per_provider: usize,
    ) -> Arc<Self> {
        Arc::new(Self { store, homes, copies, queues: Queues::new(turns_per_provider) })
    }
}
