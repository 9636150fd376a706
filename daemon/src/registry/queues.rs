//! Turns that run: each when it is its turn, written down while the answer arrives.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rusqlite::Transaction;
use sessd_proto::turn::{TURN_VARIABLE, TurnState};
use sessd_proto::{Fault, FaultCode, LaunchPlan};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::homes::KnownHome;
use super::outcomes::judge;
use super::recording::{RETRY, Recording};
use super::secrets::Secrets;
use super::starting::must_begin_anew;
use super::waiting::{Run, Stop, Waiting, stopped};
use super::{Registry, endings, leases, prompts, starting};
use crate::clock::now;
use crate::failpoint;
use crate::process;
use crate::providers::Launch;
use crate::runner::{Cause, Ended, Limits, Process};
use crate::store::leases::{self as leases_of_store, Lease};
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Asked, Group};

/// Batches of lines that may wait to be written down before the provider has to.
const BATCHES_MAX: usize = 4;

/// How often we look whether a session has become free: a process that was not started by us
/// gives no sign when it ends.
const LOOK: Duration = Duration::from_millis(250);

impl Registry {
    /// Puts a turn at the end of its session's queue, and starts the queue if it stood still.
    pub(super) fn wait_for_place(self: &Arc<Self>, session_id: String, waiting: Waiting) {
        if !self.turns.push(&session_id, waiting) {
            return;
        }
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(next) = registry.turns.next(&session_id) {
                let turn_id = next.turn_id.clone();
                // A panic in one turn must not keep the others waiting for ever.
                let turn = AssertUnwindSafe(registry.run_turn(&session_id, next));
                let outcome = match turn.catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(registry.clear_away(&turn_id).await),
                };
                registry.finish(turn_id, outcome).await;
            }
        });
    }

    /// Writes down how a turn ended, and tells everybody who follows it.
    pub(super) async fn finish(&self, turn_id: String, outcome: Result<(), Fault>) {
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
                // One that was never begun is the next daemon's, if that can run it.
                let begun = state != TurnState::Interrupted || rows::was_started(tx, &id)?;
                if begun { rows::finish(tx, &id, state, at, fault.as_ref()) } else { Ok(()) }
            };
            match self.store.write_durable(finish).await {
                Ok(()) => break,
                // The disk may be full: followers wait until there is room again.
                Err(error) => tracing::error!("cannot write down how a turn ended: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.turns.wake_followers();
    }

    async fn run_turn(self: &Arc<Self>, session_id: &str, run: Run) -> Result<(), Fault> {
        let id = run.turn_id.clone();
        let asked = self.store.read(move |c| rows::asked(c, &id)).await?.ok_or_else(deleted)?;
        let mut stop = run.stop.clone();
        let ready = tokio::select! {
            biased;
            why = stopped(&mut stop) => Err(why),
            ready = self.its_turn(session_id, &run, &asked) => ready,
        };
        let (_slot, known, row) = ready?;
        let row = self.unwritten(&known, row).await?;
        let (plan, launch) = self.plan_turn(&known, &row, &run.environment).await?;
        let plan = self.completed(&known, &launch, plan).await?;
        let mut ended = self.converse(&known, &row, (plan, &launch), run, asked).await;
        if ended.is_ok() {
            ended = self.must_go_on(&known, &row).await;
        }
        if let Err(fault) = self.sweep_home(&known).await {
            tracing::warn!("sweep after a turn: {fault}");
        }
        ended
    }

    /// Waits for a slot of the provider, and for whoever else has the session if it may.
    async fn its_turn(
        self: &Arc<Self>,
        session_id: &str,
        run: &Run,
        asked: &Asked,
    ) -> Result<(Option<OwnedSemaphorePermit>, KnownHome, Stored), Fault> {
        loop {
            let id = session_id.to_owned();
            let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
            let row = row.ok_or_else(deleted)?;
            let known = self.home_of(&row).await?.ok_or_else(|| Fault::internal("no home"))?;
            let slot = match self.turns.slots.get(known.provider.id()).cloned() {
                Some(slots) => slots.acquire_owned().await.ok(),
                None => None,
            };
            let live = self.live(&row).await?;
            if !live.blocks() {
                match self.ready(&known, row, run, asked).await? {
                    Some(row) => return Ok((slot, known, row)),
                    None => continue,
                }
            }
            if !asked.wait {
                return Err(leases::busy(&row.session, &live));
            }
            drop(slot);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The session as the turn finds it: whoever had it may have left it otherwise than it was.
    /// `None` if it is to be looked at once more.
    async fn ready(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        run: &Run,
        asked: &Asked,
    ) -> Result<Option<Stored>, Fault> {
        let row = match run.begins {
            true => row,
            false => self.check_begun(known, row).await?,
        };
        if !must_begin_anew(&row.session, asked.fallback)? {
            return Ok(Some(row));
        }
        let begin = move |tx: &Transaction<'_>| {
            Ok(!leases::is_leased(tx, &row)? && starting::begin_anew(tx, &row)?)
        };
        self.store.write_durable(begin).await?;
        Ok(None)
    }

    /// Starts the provider and writes down what it says.
    async fn converse(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        (mut plan, launch): (LaunchPlan, &Launch),
        run: Run,
        asked: Asked,
    ) -> Result<(), Fault> {
        let Run { turn_id, environment, mut stop, .. } = run;
        let input = prompts::place(known.provider, &mut plan, asked.prompt);
        let mut base = self.env.base.clone();
        base.0.extend(environment.0);
        base.0.insert(TURN_VARIABLE.to_owned(), turn_id.clone());
        let secrets = Secrets::of_start(&plan, &base, launch, &self.config.environment);
        self.start(&turn_id, row).await?;
        failpoint::reach("turn.started");
        let child = Process::start(&plan, &base).map_err(|error| not_started(&plan, &error))?;
        failpoint::reach("turn.spawned");
        match self.run_by(&turn_id, row, child.pid()).await {
            Ok(()) => {}
            // How it ended says more than that it did.
            Err(_) if process::start_ticks(child.pid()).is_none() => {}
            Err(fault) => {
                // It must end before it takes its closed input for a prompt.
                child.end().await;
                return Err(fault);
            }
        }
        self.turns.wake_followers();
        failpoint::trip();
        let configured = Duration::from_secs(self.config.turns.deadline_s);
        let limits = Limits {
            deadline: asked.timeout_ms.map_or(configured, Duration::from_millis),
            output_bytes_max: self.config.turns.output_bytes_max,
        };
        let (lines, incoming) = mpsc::channel(BATCHES_MAX);
        let talk = async {
            let ended = child.talk(input, limits, lines, stopped(&mut stop)).await;
            if ended.cause.is_some() {
                endings::end_all_of(&turn_id).await;
            }
            ended
        };
        let provider = known.provider;
        let recording =
            Recording { provider, row, turn_id: &turn_id, raw: asked.raw, secrets: &secrets };
        let (ended, heard) = tokio::join!(talk, self.record(&recording, incoming));
        let ended = Ended { stderr: secrets.hide(ended.stderr), ..ended };
        // Its lease ends with it, or is seen to be dead where even that cannot be written down.
        let why = *stop.borrow();
        match (ended.cause, why) {
            (Some(Cause::Stopped), Some(why)) => Err(why.fault()),
            _ => judge(provider, row, &ended, &heard?),
        }
    }

    /// Decides that a turn runs now: from here on it is never started again.
    async fn start(&self, turn_id: &str, row: &Stored) -> Result<(), Fault> {
        let (id, row) = (turn_id.to_owned(), row.clone());
        let started = move |tx: &Transaction<'_>| {
            // Somebody may have been faster.
            leases::must_be_free(tx, &row.session)?;
            rows::start(tx, &id, now())
        };
        match self.store.write_durable(started).await? {
            true => Ok(()),
            false => Err(Stop::Interrupted.fault()),
        }
    }

    /// Gives a turn's process the lease of the session, and the turn its process. What a loss of
    /// power takes of it is of no use after that.
    async fn run_by(self: &Arc<Self>, turn_id: &str, row: &Stored, pid: u32) -> Result<(), Fault> {
        let lease = leases::lease_of(&row.session, pid, "turn")?;
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
        self.watch_lease(lease);
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
