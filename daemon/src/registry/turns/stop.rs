//! Stops turns early: on request, at shutdown, and after a crash of an earlier daemon. It must not
//! know providers: it ends processes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use sessd_proto::turn::{CancelRequest, TURN_VARIABLE, Turn};
use sessd_proto::{Environment, Fault};

use super::Turns;
use crate::clock::now;
use crate::registry::writers::queue::{Stop, Waiting, interrupted};
use crate::store::turns::{self as rows, Group};
use crate::{process, runner, system};

/// How long running turns get to end at shutdown, and killed processes to disappear.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(6);

/// Interval for checking whether a turn has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Turns {
    /// Cancels a turn that waits or runs, and returns it once it has ended.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such turn.
    pub(crate) async fn cancel(self: &Arc<Self>, request: CancelRequest) -> Result<Turn, Fault> {
        let mut changed = self.writers.queues.changed.subscribe();
        loop {
            let turn = self.turn(&request.turn_id).await?;
            if turn.state.is_final() {
                return Ok(turn);
            }
            if self.writers.queues.remove(&turn.session_id, &turn.id) {
                // A task of its own, so that it ends even if the caller goes away.
                let (turns, fault) = (Arc::clone(self), Stop::Cancelled.fault());
                let finish = async move { turns.finish(turn.id, Err(fault)).await };
                tokio::spawn(finish).await.map_err(Fault::internal)?;
                continue;
            }
            // It may be moving from the queue to the runner; the next iteration catches it then.
            self.writers.queues.stop_current(&turn.session_id, Some(&turn.id));
            let _ = tokio::time::timeout(POLL_INTERVAL, changed.changed()).await;
        }
    }

    /// Kills the processes of turns that an earlier daemon ran, and marks those turns interrupted.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn recover(&self) -> Result<(), crate::store::Error> {
        self.end_running().await?;
        self.interrupt().await
    }

    /// Kills the processes of all turns that the registry lists as running.
    async fn end_running(&self) -> Result<(), crate::store::Error> {
        let running = self.store.read(rows::running).await?.into_iter();
        let ends =
            running.map(|(turn_id, group)| async move { end_processes(&turn_id, group).await });
        join_all(ends).await;
        Ok(())
    }

    /// Queues the turns of an earlier daemon that can still be run.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn requeue(self: &Arc<Self>) -> Result<(), crate::store::Error> {
        for (turn_id, session_id) in self.store.read(rows::waiting).await? {
            let environment = Environment::default();
            self.queue(Waiting { session_id, turn_id, environment, is_first: false });
        }
        Ok(())
    }

    /// Kills the processes of a turn whose task panicked; returns the fault that it ends with.
    pub(crate) async fn end_crashed(&self, turn_id: &str) -> Fault {
        let running = self.store.read(rows::running).await.unwrap_or_default();
        let group = running.into_iter().find(|(id, _)| id == turn_id).and_then(|(_, group)| group);
        end_processes(turn_id, group).await;
        Fault::internal("internal error while running the turn; see the daemon log")
    }

    /// Marks those turns as interrupted that no daemon can continue.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    async fn interrupt(&self) -> Result<(), crate::store::Error> {
        let running = Stop::Interrupted.fault();
        let waiting =
            interrupted("its environment was kept only in the memory of the daemon that ended");
        self.store.write_durable(move |tx| rows::interrupt(tx, now(), &running, &waiting)).await
    }

    /// Interrupts running turns at shutdown. Waiting turns are left to the next daemon, if it can
    /// run them.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn interrupt_all(self: &Arc<Self>) -> Result<(), Fault> {
        let mut changed = self.writers.queues.changed.subscribe();
        self.writers.queues.stop_all();
        let ended = async {
            while self.writers.queues.has_any() {
                let _ = tokio::time::timeout(POLL_INTERVAL, changed.changed()).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            tracing::warn!("running turns did not stop in time; killing them");
            self.end_running().await?;
        }
        self.interrupt().await?;
        self.writers.queues.wake_followers();
        Ok(())
    }
}

/// Kills the remaining processes of a turn. The kernel has signalled the end of the daemon to the
/// leader, but the leader may have ignored that or left other processes behind.
async fn end_processes(turn_id: &str, group: Option<Group>) {
    if group.as_ref().is_some_and(|group| group.boot_id != process::boot_id()) {
        return;
    }
    end_all_of(turn_id).await;
    let is_there = |group: &Group| process::start_ticks(group.pgid) == Some(group.start_ticks);
    if let Some(group) = group.filter(is_there) {
        runner::end_group(group.pgid, Signal::KILL);
        wait_for_exit([group.pgid]).await;
    }
}

/// Kills every process that carries a turn's mark, also those that left its process group and
/// closed its pipes. Only for turns that were stopped: a finished turn may leave processes running
/// on purpose.
pub(crate) async fn end_all_of(turn_id: &str) {
    let mark = format!("{TURN_VARIABLE}={turn_id}");
    let ended = tokio::task::spawn_blocking(move || process::end_marked(&mark)).await;
    wait_for_exit(ended.unwrap_or_default()).await;
}

/// Waits until killed processes are gone; until then the session is busy and the next turn would be
/// refused.
async fn wait_for_exit(killed: impl IntoIterator<Item = u32>) {
    let ended = join_all(killed.into_iter().map(system::process_ended));
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, ended).await;
}
