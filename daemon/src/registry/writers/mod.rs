//! Writers: which process may write a session now. "One writer per session" lives here.
//!
//! Live state, leases and the turn queues stand together because each alone is not enough: a
//! process that sessd did not start shows only in live state, a process that sessd started holds a
//! lease, and a turn that waits holds neither. Knows homes; knows nothing of how a session is
//! discovered, started or sent to.

use std::sync::Arc;

use sessd_proto::Fault;

use crate::copies::Copies;
use crate::registry::homes::Homes;
use crate::store::{Store, twins};
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

    /// Reads which sessions are twins, at the start.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn recover_twins(&self) -> Result<(), Fault> {
        self.queues.set_twins(self.store.read(twins::all).await?);
        Ok(())
    }

    /// Adds sessions that are twins: one transcript, so one queue and one lease. With `only_in`
    /// homes, all other pairs in these are twins no more.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub(crate) async fn set_twins(
        &self,
        pairs: Vec<[String; 2]>,
        only_in: Vec<i64>,
    ) -> Result<(), Fault> {
        let known = self.store.read(twins::all).await?;
        if !known.is_empty() || !pairs.is_empty() {
            let set = move |tx: &rusqlite::Transaction<'_>| twins::set(tx, &pairs, &only_in);
            self.store.write_durable(set).await?;
        }
        // Also if nothing has changed: a queue that was in use then may be free now.
        if !known.is_empty() || self.queues.have_twins() {
            self.recover_twins().await?;
        }
        Ok(())
    }
}
