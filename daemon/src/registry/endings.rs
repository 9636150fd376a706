//! Turns that end before their time, by request or with the daemon, and what the next daemon
//! goes on with.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sessd_proto::turn::{CancelRequest, TURN_VARIABLE, Turn, TurnState};
use sessd_proto::{Environment, Fault};

use super::Registry;
use super::waiting::{Stop, Waiting, interrupted};
use crate::clock::now;
use crate::store::turns::{self as rows, Group, Pending};
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
        for pending in self.store.read(rows::pending).await? {
            let Pending { turn, needs_environment, group } = pending;
            if turn.state == TurnState::Queued && !needs_environment {
                let environment = Environment::default();
                let waiting = Waiting { turn_id: turn.id, environment, begins: false };
                self.wait_for_place(turn.session_id, waiting);
                continue;
            }
            if turn.state == TurnState::Running {
                end_processes(&turn.id, group);
            }
            self.interrupt(turn).await?;
        }
        self.turns.wake_followers();
        Ok(())
    }

    /// Ends what a turn has started that broke down in our own code, and waits until it has: the
    /// next one needs the session.
    pub(super) async fn clear_away(&self, turn_id: &str) -> Fault {
        let group = match self.store.read(rows::pending).await {
            Ok(pending) => pending.into_iter().find(|pending| pending.turn.id == turn_id),
            Err(_) => None,
        };
        let group = group.and_then(|pending| pending.group);
        let leader = group.as_ref().map(|group| group.pgid);
        end_processes(turn_id, group);
        if let Some(leader) = leader {
            let _ = tokio::time::timeout(PATIENCE, system::process_ended(leader)).await;
        }
        Fault::internal("the turn broke down in the daemon; see its log")
    }

    async fn interrupt(&self, turn: Turn) -> Result<(), crate::store::Error> {
        let fault = match turn.state {
            TurnState::Running => Stop::Interrupted.fault(),
            _ => {
                interrupted("the variables that it was sent with were only in the daemon's memory")
            }
        };
        let finish = move |tx: &rusqlite::Transaction<'_>| {
            rows::finish(tx, &turn.id, TurnState::Interrupted, now(), Some(&fault))
        };
        self.store.promise(finish).await
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
        for Pending { turn, needs_environment, .. } in self.store.read(rows::pending).await? {
            if turn.state == TurnState::Running || needs_environment {
                self.interrupt(turn).await?;
            }
        }
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
