//! Runs queued turns: one at a time per session, recording the output as it streams in.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rusqlite::Transaction;
use sessd_proto::turn::{TURN_VARIABLE, TurnState};
use sessd_proto::{Fault, FaultCode, LaunchPlan, LeaseKind};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Turns;
use super::outcome::{judge, tell_what_is_left};
use super::record::{RETRY_PAUSE, Recording};
use super::{prompt, stop};
use crate::clock::now;
use crate::failpoint;
use crate::process;
use crate::providers::Launch;
use crate::registry::homes::KnownHome;
use crate::registry::launch::admission::needs_rebind;
use crate::registry::launch::create::start_over;
use crate::registry::launch::secrets;
use crate::registry::writers::leases;
use crate::registry::writers::queue::{Run, Stop, Waiting, wait_for_stop};
use crate::runner::{Cause, Ended, Limits, Process};
use crate::store::leases::{self as leases_of_store, Lease};
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Asked, Group};

/// Batches of output lines that may wait to be stored before the provider is paused.
const PENDING_BATCHES_MAX: usize = 4;

/// Interval for checking whether a session has become free; a process that we did not start cannot
/// be watched.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long a turn waits until a torn transcript may be mended.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(60);

impl Turns {
    /// Appends a turn to its session's queue, and starts a task that runs the queue if it was idle.
    pub(crate) fn queue(self: &Arc<Self>, waiting: Waiting) {
        let Some(queue) = self.writers.queues.push(waiting) else { return };
        let turns = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(next) = turns.writers.queues.next(&queue) {
                let turn_id = next.turn_id.clone();
                // A panic in one turn must not block the turns behind it.
                let turn = AssertUnwindSafe(turns.run_turn(next));
                let outcome = match turn.catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(turns.end_crashed(&turn_id).await),
                };
                turns.finish(turn_id, outcome).await;
            }
        });
    }

    /// Stores the outcome of a turn, and wakes its followers. Retries until the store accepts it.
    pub(crate) async fn finish(&self, turn_id: String, outcome: Result<(), Fault>) {
        let state = match &outcome {
            Ok(()) => TurnState::Succeeded,
            Err(fault) if fault.code == FaultCode::Cancelled => TurnState::Cancelled,
            Err(fault) if fault.code == FaultCode::Interrupted => TurnState::Interrupted,
            Err(_) => TurnState::Failed,
        };
        let (fault, at) = (outcome.err(), now());
        loop {
            let (id, fault) = (turn_id.clone(), fault.clone());
            let finish = move |tx: &Transaction<'_>| {
                // A turn that never started stays queued: the next daemon may be able to run it.
                let started = state != TurnState::Interrupted || rows::was_started(tx, &id)?;
                if started { rows::finish(tx, &id, state, at, fault.as_ref()) } else { Ok(()) }
            };
            match self.store.write_durable(finish).await {
                Ok(()) => break,
                // The disk may be full: followers wait until there is room again.
                Err(error) => tracing::error!("cannot store how a turn ended: {error}"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.writers.queues.wake_followers();
    }

    /// Runs one turn to its end.
    async fn run_turn(self: &Arc<Self>, run: Run) -> Result<(), Fault> {
        let id = run.turn_id.clone();
        let asked = self.store.read(move |c| rows::asked(c, &id)).await?.ok_or_else(deleted)?;
        let mut stop = run.stop.clone();
        let ready = tokio::select! {
            biased;
            why = wait_for_stop(&mut stop) => Err(why),
            ready = self.wait_until_free(&run, &asked) => ready,
        };
        let (_slot, known, row) = ready?;
        let row = self.discovery.without_unwritten_id(&known, row).await?;
        let (plan, launch) = self.plan_turn(&known, &row, &run.environment).await?;
        let plan = self.launches.complete(&known, &launch, plan).await?;
        let mut ended = self.converse(&known, &row, (plan, &launch), run, asked).await;
        if ended.is_ok() {
            ended = self.check_same_conversation(&known, &row).await;
        }
        self.writers.remove_stubs_of(&row.session.id).await;
        if let Err(fault) = self.discovery.sweep_home(&known).await {
            tracing::warn!("sweep after a turn: {fault}");
        }
        ended
    }

    /// Waits for a slot of the provider and, if the caller allows it, until the session is free.
    async fn wait_until_free(
        self: &Arc<Self>,
        run: &Run,
        asked: &Asked,
    ) -> Result<(Option<OwnedSemaphorePermit>, KnownHome, Stored), Fault> {
        loop {
            let id = run.session_id.clone();
            let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
            let row = row.ok_or_else(deleted)?;
            let known = self.homes.of_session(&row).await?;
            let slot = match self.writers.queues.slots.get(known.provider.id()).cloned() {
                Some(slots) => slots.acquire_owned().await.ok(),
                None => None,
            };
            let live = self.writers.live(&row).await?;
            if !live.blocks() {
                match self.recheck(&known, row, run, asked).await? {
                    Some(row) => return Ok((slot, known, row)),
                    None => continue,
                }
            }
            if !asked.wait {
                return Err(self.launches.busy(&row, &live).await?);
            }
            drop(slot);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Re-checks the session right before the turn starts, since another writer may have changed
    /// it. Returns `None` if it was rebound and must be read again.
    async fn recheck(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        run: &Run,
        asked: &Asked,
    ) -> Result<Option<Stored>, Fault> {
        let row = match run.is_first {
            true => row,
            false => self.launches.check_unstarted(known, row, &run.environment).await?,
        };
        if !needs_rebind(&row.session, asked.fallback)? {
            return Ok(Some(row));
        }
        let restart =
            move |tx: &Transaction<'_>| Ok(!leases::is_leased(tx, &row)? && start_over(tx, &row)?);
        self.store.write_durable(restart).await?;
        Ok(None)
    }

    /// Starts the provider, passes it the prompt, and records its output.
    async fn converse(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        (mut plan, launch): (LaunchPlan, &Launch),
        run: Run,
        asked: Asked,
    ) -> Result<(), Fault> {
        let Run { turn_id, environment, mut stop, .. } = run;
        let input = prompt::place(known.provider, &mut plan, asked.prompt);
        let mut base = self.env.base.clone();
        base.0.extend(environment.0);
        base.0.insert(TURN_VARIABLE.to_owned(), turn_id.clone());
        let hidden = secrets::of_launch(&plan, &base, launch, &self.config.environment);
        self.start(&turn_id, row).await?;
        failpoint::reach("turn.started");
        tokio::select! {
            biased;
            why = wait_for_stop(&mut stop) => return Err(why),
            prepared = self.writers.prepare(known, row, None, PREPARE_TIMEOUT) => prepared?,
        };
        let child = Process::start(&plan, &base).map_err(|error| not_started(&plan, &error))?;
        failpoint::reach("turn.spawned");
        match self.run_by(&turn_id, row, child.pid()).await {
            Ok(()) => {}
            // It has already exited; report its exit status instead of the missing-process error.
            Err(_) if process::start_ticks(child.pid()).is_none() => {}
            Err(fault) => {
                // Kill it before it treats EOF on stdin as an (empty) prompt.
                child.end().await;
                return Err(fault);
            }
        }
        self.writers.queues.wake_followers();
        failpoint::trip();
        let configured = Duration::from_secs(self.config.turns.deadline_s);
        let limits = Limits {
            deadline: asked.timeout_ms.map_or(configured, Duration::from_millis),
            output_bytes_max: self.config.turns.output_bytes_max,
        };
        let (lines, incoming) = mpsc::channel(PENDING_BATCHES_MAX);
        let talk = async {
            let ended = child.talk(input, limits, lines, wait_for_stop(&mut stop)).await;
            if ended.cause.is_some() {
                stop::end_all_of(&turn_id).await;
            }
            ended
        };
        let provider = known.provider;
        let recording =
            Recording { provider, row, turn_id: &turn_id, raw: asked.raw, secrets: &hidden };
        let (ended, heard) = tokio::join!(talk, self.record(&recording, incoming));
        let ended = Ended { stderr: hidden.hide(ended.stderr), ..ended };
        // The lease ends with the process. If that cannot be stored, `is_alive` finds it dead.
        let why = *stop.borrow();
        match (ended.cause, why) {
            (Some(Cause::Stopped), Some(Stop::Cancelled)) => {
                Err(self.with_trace(known, row, Stop::Cancelled.fault()).await)
            }
            (Some(Cause::Stopped), Some(why)) => Err(why.fault()),
            _ => match judge(provider, row, &ended, &heard?) {
                Err(fault) if fault.code != FaultCode::Interrupted => {
                    Err(self.with_trace(known, row, fault).await)
                }
                judged => judged,
            },
        }
    }

    /// Completes the fault of a failed turn with what it left in the session.
    async fn with_trace(self: &Arc<Self>, known: &KnownHome, row: &Stored, fault: Fault) -> Fault {
        if let Err(fault) = self.discovery.sweep_home(known).await {
            tracing::warn!("sweep after a turn: {fault}");
        }
        let (seq, before) = (row.seq, row.session.last_activity);
        // A fork or a new session that was never written has no transcript.
        let after = self.store.read(move |c| sessions::by_seq(c, seq)).await.ok().flatten();
        let is_kept = after.is_some_and(|after| {
            !after.location.is_empty() && after.session.last_activity > before
        });
        tell_what_is_left(fault, &row.session, is_kept)
    }

    /// Marks a turn as running. From here on it is never started again.
    async fn start(&self, turn_id: &str, row: &Stored) -> Result<(), Fault> {
        let (id, row) = (turn_id.to_owned(), row.clone());
        let started = move |tx: &Transaction<'_>| {
            // Another process may have taken the session since it was last read.
            leases::must_be_free(tx, &row.session)?;
            rows::start(tx, &id, now())
        };
        match self.store.write_durable(started).await? {
            true => Ok(()),
            false => Err(Stop::Interrupted.fault()),
        }
    }

    /// Stores a turn's process and gives that process the lease. A relaxed write is enough: after a
    /// loss of power both are void.
    async fn run_by(self: &Arc<Self>, turn_id: &str, row: &Stored, pid: u32) -> Result<(), Fault> {
        let lease = leases::lease_of(&row.session, pid, LeaseKind::Turn)?;
        let (id, taken) = (turn_id.to_owned(), lease.clone());
        self.store
            .write(move |tx| {
                let Lease { pid, start_ticks, boot_id, .. } = &taken;
                let group =
                    Group { pgid: *pid, start_ticks: *start_ticks, boot_id: boot_id.clone() };
                leases_of_store::put(tx, &taken)?;
                rows::set_group(tx, &id, &group)
            })
            .await?;
        self.writers.watch_lease(lease);
        Ok(())
    }
}

fn deleted() -> Fault {
    Fault::new(FaultCode::NotFound, "the session was deleted")
}

fn not_started(plan: &LaunchPlan, error: &std::io::Error) -> Fault {
    let what = format!("cannot start {} in {}: {error}", plan.program, plan.cwd);
    Fault::new(FaultCode::ProviderUnavailable, what).hint("what the daemon sees: `sessctl doctor`")
}
