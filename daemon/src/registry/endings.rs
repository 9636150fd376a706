//! Turns that end before their time, by request or with the daemon, and what the next daemon
//! goes on with.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sessd_proto::turn::{CancelRequest, TURN_VARIABLE, Turn};
use sessd_proto::{Environment, Fault};

use super::Registry;
use super::waiting::{Stop, Waiting, interrupted};
use crate::clock::now;
use crate::store::turns::{self as rows, Group};
use crate::{process, runner, system};

/// How long turns may take to end before the daemon does.
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

    /// Ends the processes of turns that an earlier daemon ran, says so in their states, and lets
    /// those wait again that can still be run.
    pub(super) async fn recover_turns(self: &Arc<Self>) -> Result<(), crate::store::Error> {
        for (turn_id, group) in self.store.read(rows::running).await? {
            end_processes(&turn_id, group);
        }
        self.interrupt().await?;
        for (turn_id, session_id) in self.store.read(rows::waiting).await? {
            let environment = Environment::default();
            self.wait_for_place(session_id, Waiting { turn_id, environment, begins: false });
        }
        self.turns.wake_followers();
        Ok(())
    }

    /// Ends what a turn has started that broke down in our own code, and waits until it has: the
    /// next one needs the session.
    pub(super) async fn clear_away(&self, turn_id: &str) -> Fault {
        let running = self.store.read(rows::running).await.unwrap_or_default();
        let group = running.into_iter().find(|(id, _)| id == turn_id).and_then(|(_, group)| group);
        let leader = group.as_ref().map(|group| group.pgid);
        end_processes(turn_id, group);
        if let Some(leader) = leader {
            let _ = tokio::time::timeout(PATIENCE, system::process_ended(leader)).await;
        }
        Fault::internal("the turn broke down in the daemon; see its log")
    }

    /// Writes down that the turns have ended that no daemon goes on with.
    async fn interrupt(&self) -> Result<(), crate::store::Error> {
        let running = Stop::Interrupted.fault();
        let waiting =
            interrupted("the variables that it was sent with were only in the daemon's memory");
        self.store.promise(move |tx| rows::interrupt(tx, now(), &running, &waiting)).await
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
            tracing::warn!("turns do not end; the next daemon ends them");
        }
        self.interrupt().await?;
        self.turns.wake_followers();
        Ok(())
    }
}

/// Ends what is left of a turn's processes. Its leader has been told by the kernel that the daemon
/// is gone, but need not have obeyed, or may have left others.
fn end_processes(turn_id: &str, group: Option<Group>) {
    let group = match group {
        Some(group) if group.boot_id != process::boot_id() => return,
        Some(group) => {
            if process::start_ticks(group.pgid) == Some(group.start_ticks) {
                runner::end_group(group.pgid, Signal::KILL);
            }
            Some(group.pgid)
        }
        None => None,
    };
    process::kill_marked(&format!("{TURN_VARIABLE}={turn_id}"), group);
}
