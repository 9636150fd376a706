//! Cleanup: moves overdue sessions to the trash, purges old trash, and trims the registry's own
//! tables. It never touches a transcript.
//!
//! A cleanup first makes a plan, then carries it out step by step; a dry run returns the plan.
//! Each step stands alone and changes a session only if it is still as it was when planned.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};
use sessd_proto::cleanup::{Action, ActionKind, CleanupReport, CleanupRequest};
use sessd_proto::{Fault, Status, Timestamp, TrashReason};

use super::Sessions;
use crate::clock::{self, ClockSample, Hold, now};
use crate::config::Config;
use crate::failpoint;
use crate::launch_files;
use crate::registry::writers::leases::is_leased;
use crate::store::sessions::{self, Stored};
use crate::store::{self, clock_samples, events, trash, turns};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The steps of one cleanup, with the rows they apply to.
#[derive(Debug, Default)]
struct Plan {
    trash: Vec<(Stored, TrashReason)>,
    purge: Vec<Stored>,
    tombstones: i64,
    last_event: i64,
    events: i64,
    old_turns: Vec<String>,
}

impl Sessions {
    /// Cleans up now, or with `dry_run` returns what that would do.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written; steps done until then stay done.
    pub(crate) async fn cleanup(
        self: &Arc<Self>,
        request: CleanupRequest,
    ) -> Result<CleanupReport, Fault> {
        let _one_at_a_time = self.cleaning.lock().await;
        let sample = ClockSample::now();
        let earlier = self.store.read(clock_samples::all).await?;
        let horizon = clock::horizon(&earlier, &sample);
        let (config, until) = (self.config.clone(), horizon.clone().ok());
        let plan = self.store.read_slowly(move |c| plan(c, &config, until)).await?;
        let plan = self.without_running(plan).await?;
        let mut report = CleanupReport {
            dry_run: request.dry_run,
            held: horizon.err().map(describe),
            ..CleanupReport::default()
        };
        if request.dry_run {
            report.actions = plan.actions();
            return Ok(report);
        }
        if earlier.last().is_none_or(|last| sample.is_worth_keeping_after(last)) {
            self.store.write(move |tx| clock_samples::append(tx, &sample)).await?;
        }
        failpoint::reach("cleanup.planned");
        report.actions = self.carry_out(plan).await?;
        Ok(report)
    }

    /// Removes sessions from the plan that are open or have turns.
    async fn without_running(self: &Arc<Self>, mut plan: Plan) -> Result<Plan, Fault> {
        if plan.trash.is_empty() && plan.purge.is_empty() {
            return Ok(plan);
        }
        let running: Vec<i64> = self.writers.running().await?.iter().map(|row| row.seq).collect();
        let idle =
            |row: &Stored| !running.contains(&row.seq) && !self.writers.queues.has(&row.session.id);
        plan.trash.retain(|(row, _)| idle(row));
        plan.purge.retain(idle);
        Ok(plan)
    }

    /// Carries out a plan step by step; returns the steps that were done.
    async fn carry_out(&self, plan: Plan) -> Result<Vec<Action>, Fault> {
        let mut done = Plan { tombstones: plan.tombstones, events: plan.events, ..Plan::default() };
        for (row, reason) in plan.trash {
            let stored = row.clone();
            let put = move |tx: &Transaction<'_>| {
                Ok(!is_leased(tx, &stored)? && trash::put(tx, &stored, now(), reason)?)
            };
            if self.store.write_durable(put).await? {
                done.trash.push((row, reason));
            }
        }
        failpoint::reach("cleanup.trashed");
        for row in plan.purge {
            let stored = row.clone();
            let purge = move |tx: &Transaction<'_>| {
                Ok(!is_leased(tx, &stored)? && trash::purge(tx, &stored, now())?)
            };
            if self.store.write_durable(purge).await? {
                launch_files::forget(&self.state, &row.session.id).await;
                done.purge.push(row);
            }
        }
        failpoint::reach("cleanup.purged");
        self.store.write(|tx| trash::forget_stale_tombstones(tx)).await?;
        let last = plan.last_event;
        while self.store.write(move |tx| events::forget(tx, last)).await? > 0 {}
        for id in plan.old_turns {
            let turn = id.clone();
            self.store.write(move |tx| turns::forget(tx, &turn)).await?;
            done.old_turns.push(id);
        }
        Ok(done.actions())
    }
}

/// Plans a cleanup. Without a trusted time (`until`) nothing is removed by its age.
fn plan(c: &Connection, config: &Config, until: Option<Timestamp>) -> store::Result<Plan> {
    let before = |days: u32| until.map(|until| until.plus_ms(-DAY_MS * i64::from(days)));
    let mut plan = Plan { tombstones: trash::count_stale_tombstones(c)?, ..Plan::default() };
    if let Some(past_ttl) = until {
        let due = trash::due_by_ttl(c, past_ttl)?;
        plan.trash =
            sessions::by_seqs(c, due)?.into_iter().map(|row| (row, TrashReason::Ttl)).collect();
    }
    if let Some(gone) = before(config.cleanup.grace_days) {
        let due = trash::due_gone(c, gone)?;
        let planned: Vec<i64> = plan.trash.iter().map(|(row, _)| row.seq).collect();
        let due = due.into_iter().filter(|seq| !planned.contains(seq));
        plan.trash.extend(sessions::by_seqs(c, due)?.into_iter().map(|row| {
            let is_gone = row.session.status == Status::Expired;
            (row, if is_gone { TrashReason::Gone } else { TrashReason::NeverStarted })
        }));
    }
    if let Some(trashed) = before(config.cleanup.trash_days) {
        let due = trash::due_purge(c, trashed)?;
        plan.purge = sessions::by_seqs(c, due)?;
    }
    let retention = &config.retention;
    (plan.last_event, plan.events) =
        events::old(c, retention.events, before(retention.events_days))?;
    plan.old_turns = turns::old(c, retention.turns, before(retention.turns_days))?;
    Ok(plan)
}

impl Plan {
    /// Lists the steps in the order in which they are carried out.
    fn actions(&self) -> Vec<Action> {
        let about = |action, row: &Stored, reason: TrashReason| Action {
            action,
            session_id: Some(row.session.id.clone()),
            provider: Some(row.session.provider.clone()),
            title: row.session.title.clone(),
            reason,
            count: None,
        };
        let rows = |action, count: i64, reason: TrashReason| {
            (count > 0).then(|| Action { action, reason, count: Some(count), ..Action::default() })
        };
        let turns = i64::try_from(self.old_turns.len()).unwrap_or(i64::MAX);
        let mut actions = Vec::new();
        let trash = self.trash.iter();
        actions.extend(trash.map(|(row, reason)| about(ActionKind::Trash, row, *reason)));
        actions.extend(
            self.purge.iter().map(|row| about(ActionKind::Purge, row, TrashReason::TrashDays)),
        );
        actions.extend(rows(
            ActionKind::ForgetTombstones,
            self.tombstones,
            TrashReason::TranscriptsGone,
        ));
        actions.extend(rows(ActionKind::ForgetEvents, self.events, TrashReason::Retention));
        actions.extend(rows(ActionKind::ForgetTurns, turns, TrashReason::Retention));
        actions
    }
}

fn describe(hold: Hold) -> String {
    match hold {
        Hold::ClockSet(left_ms) => {
            let minutes = left_ms / 60_000 + 1;
            let (hours, minutes) = (minutes / 60, minutes % 60);
            format!(
                "the clock was set: nothing is removed by its age for {hours} h {minutes} min of \
                 uptime"
            )
        }
        Hold::FirstSample => {
            "nothing is removed by its age until two cleanups, an hour of uptime apart, agree"
                .to_owned()
        }
    }
}
