//! Turns that end before their time, by request or with the daemon, and what the next daemon
//! goes on with.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use sessd_proto::turn::{CancelRequest, TURN_VARIABLE, Turn};
use sessd_proto::{Environment, Fault};

use super::Registry;
use super::waiting::{Stop, Waiting, interrupted};
use crate::clock::now;
use crate::store::turns::{self as rows, Group};
use crate::{process, runner, system};

/// How long turns may take to end before the daemon does, and processes that were killed.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often we look whether a turn has ended.
const LOOK: Duration = Duration::from_millis(50);

impl Registry {
    /// Ends a turn that waits or runs, and answers it once it has ended.
    ///
    /// # Errors
    /// When there is no such turn.
    pub async fn cancel(self: &Arc<Self>, request: CancelRequest) -> Result<Turn, Fault> {
        let mut changed = self.turns.changed.subscribe();
        loop {
            let turn = self.turn(&request.turn_id).await?;
            if turn.state.is_final() {
                return Ok(turn);
            }
            if self.turns.take_out(&turn.session_id, &turn.id) {
                // A task of its own: nobody else ends it if the caller goes away.
                let (registry, fault) = (Arc::clone(self), Stop::Cancelled.fault());
                let finish = async move { registry.finish(turn.id, Err(fault)).await };
                tokio::spawn(finish).await.map_err(Fault::internal)?;
                continue;
            }
            // One that is between two places is met there the next time.
            self.turns.stop_current(&turn.session_id, Some(&turn.id));
            let _ = tokio::time::timeout(LOOK, changed.changed()).await;
        }
    }

    /// Ends the processes of turns that an earlier daemon ran, and says so in their states.
    pub(super) async fn recover_turns(&self) -> Result<(), crate::store::Error> {
        self.end_running().await?;
        self.interrupt().await
    }

    /// Ends the processes of all turns that run by the registry.
    async fn end_running(&self) -> Result<(), crate::store::Error> {
        let running = self.store.read(rows::running).await?.into_iter();
        let ends =
            running.map(|(turn_id, group)| async move { end_processes(&turn_id, group).await });
        join_all(ends).await;
        Ok(())
    }

    /// Lets turns of an earlier daemon wait again that can still be run.
    pub(super) async fn queue_again(self: &Arc<Self>) -> Result<(), crate::store::Error> {
        for (turn_id, session_id) in self.store.read(rows::waiting).await? {
            let environment = Environment::default();
            self.wait_for_place(session_id, Waiting { turn_id, environment, begins: false });
        }
        Ok(())
    }

    /// Ends what a turn has started that broke down in our own code.
    pub(super) async fn clear_away(&self, turn_id: &str) -> Fault {
        let running = self.store.read(rows::running).await.unwrap_or_default();
        let group = running.into_iter().find(|(id, _)| id == turn_id).and_then(|(_, group)| group);
        end_processes(turn_id, group).await;
        Fault::internal("the turn broke down in the daemon; see its log")
    }

    /// Writes down that the turns have ended that no daemon goes on with.
    async fn interrupt(&self) -> Result<(), crate::store::Error> {
        let running = Stop::Interrupted.fault();
        let waiting =
            interrupted("the variables that it was sent with were only in the daemon's memory");
        self.store.write_durable(move |tx| rows::interrupt(tx, now(), &running, &waiting)).await
    }

    /// Ends running turns before the daemon does; those that wait are left to the next one, if it
    /// can run them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn interrupt_turns(self: &Arc<Self>) -> Result<(), Fault> {
        let mut changed = self.turns.changed.subscribe();
        self.turns.stop_all();
        let ended = async {
            while self.turns.has_any() {
                let _ = tokio::time::timeout(LOOK, changed.changed()).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!("turns do not end; they are ended");
            self.end_running().await?;
        }
        self.interrupt().await?;
        self.turns.wake_followers();
        Ok(())
    }
}

/// Ends what is left of a turn's processes. Its leader has been told by the kernel that the daemon
/// is gone, but need not have obeyed, or may have left others.
async fn end_processes(turn_id: &str, group: Option<Group>) {
    if group.as_ref().is_some_and(|group| group.boot_id != process::boot_id()) {
        return;
    }
    end_all_of(turn_id).await;
    let is_there = |group: &Group| process::start_ticks(group.pgid) == Some(group.start_ticks);
    if let Some(group) = group.filter(is_there) {
        runner::end_group(group.pgid, Signal::KILL);
        must_end([group.pgid]).await;
    }
}

/// Ends what a turn has started that did not end by itself, also what has left its group and let
/// go of its pipes. Where the turn has ended by itself, that is what it was asked to leave running.
pub(super) async fn end_all_of(turn_id: &str) {
    let mark = format!("{TURN_VARIABLE}={turn_id}");
    let ended = tokio::task::spawn_blocking(move || process::end_marked(&mark)).await;
    must_end(ended.unwrap_or_default()).await;
}

/// Waits for what was killed, which takes its time to give back its memory: until it has ended,
/// its session is busy, and the next turn would be refused.
async fn must_end(killed: impl IntoIterator<Item = u32>) {
    let ended = join_all(killed.into_iter().map(system::process_ended));
    let _ = tokio::time::timeout(PATIENCE, ended).await;
}
