//! Recurring work: idempotent functions without input, one run at a time, last result visible.
//!
//! A job takes no input and looks at everything: it compares what is there with what should be,
//! and acts on the difference. So a run that was missed, repeated or cut off by a crash needs no
//! repair, the next one does its work. File notifications, which overflow and get lost, are only
//! hints to run earlier. Per job one run at a time, so that two never act on the same state, and
//! its last result is stored, so that `sessctl jobs` shows what it did or why it failed.
//!
//! tokio-cron-scheduler starts them; runs missed during sleep or downtime are made up for once.
//! Jobs call the registry; only this file calls the store, for the runs.
//!
//! Rejected alternatives:
//!
//! - A queue of work items, one per changed file: items get lost in a crash, and one that always
//!   fails must be found and thrown away. A full comparison costs little more than `find`.
//! - Notifications only, without a schedule: a queue of the kernel that has overflowed, or a
//!   directory made before it is watched, would leave a session unknown for good.
//! - Each job with a timer of its own: missed runs, catching up and `next due` would be written
//!   once per job. Here a new job is a file, and a line in the table below.
//! - Making up for every missed run: after a week of sleep the same work would be done many times.
//! - Trusting the wall clock: a clock set forward would make everything overdue at once. So the
//!   cleanup compares it with the uptime first, and removes nothing by age while they disagree.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sessd_proto::job::{Job, JobsResponse, RunJobRequest};
use sessd_proto::{Fault, FaultCode, Json, Timestamp};
use tokio_cron_scheduler::JobScheduler;

use crate::clock::now;
use crate::config::schedule::{self, Schedule};
use crate::registry::Registry;
use crate::store::job_runs;
use crate::system;

pub mod cleanup;
pub mod discovery;
pub mod heartbeat;

/// The work of a job. Returns its result, for `sessctl jobs`.
type Work = fn(Arc<Registry>) -> Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send>>;

/// All jobs.
pub struct Jobs {
    registry: Arc<Registry>,
    table: Vec<Entry>,
}

/// A job in the table.
struct Entry {
    name: &'static str,
    expression: String,
    schedule: Schedule,
    work: Work,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    running: AtomicBool,
}

impl Jobs {
    /// Returns the jobs of a registry, with the schedules of its configuration.
    ///
    /// # Errors
    /// Fails if a schedule is invalid; the configuration was already refused in that case.
    pub fn new(registry: Arc<Registry>) -> Result<Arc<Self>, Fault> {
        let config = registry.config();
        let table = vec![
            entry("cleanup", &config.cleanup.schedule, |r| Box::pin(cleanup::run(r)))?,
            entry("discovery", &config.discovery.schedule, |r| Box::pin(discovery::run(r)))?,
            entry("heartbeat", &config.heartbeat.schedule, |r| Box::pin(heartbeat::run(r)))?,
        ];
        Ok(Arc::new(Self { registry, table }))
    }

    /// Sweeps at once, makes up for missed runs, then follows the schedules.
    ///
    /// # Errors
    /// Fails if the scheduler does not start.
    pub async fn start(self: &Arc<Self>) -> Result<(), Fault> {
        let (sweeps, others): (Vec<_>, Vec<_>) =
            self.table.iter().partition(|entry| entry.name == "discovery");
        // Discovery first: the other jobs rely on an up-to-date registry.
        self.make_up_for(&sweeps).await;
        // Lists wait for the first sweep. If the run above has failed, try once more.
        if !self.registry.discovery.has_swept() {
            let swept = self.registry.discovery.sweep().await;
            let _ = swept.inspect_err(|fault| tracing::error!("first sweep: {fault}"));
        }
        // Before the other jobs, which may take a while: a session that begins meanwhile is seen.
        if self.registry.config().discovery.watch {
            discovery::watch(Arc::clone(&self.registry));
        }
        self.make_up_for(&others).await;
        let scheduler = JobScheduler::new().await.map_err(Fault::internal)?;
        for (index, entry) in self.table.iter().enumerate() {
            let jobs = Arc::clone(self);
            let fire = move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
                let jobs = Arc::clone(&jobs);
                Box::pin(async move {
                    let entry = &jobs.table[index];
                    let due = entry.schedule.last_before(now()).unwrap_or_else(now);
                    jobs.fire(entry, due).await;
                })
            };
            let job = tokio_cron_scheduler::Job::new_async(&*entry.expression, fire);
            scheduler.add(job.map_err(Fault::internal)?).await.map_err(Fault::internal)?;
        }
        scheduler.start().await.map_err(Fault::internal)
    }

    /// Runs the jobs whose last run was missed. Discovery is always due: files may have changed
    /// while no daemon was running.
    async fn make_up_for(&self, entries: &[&Entry]) {
        for entry in entries {
            let last = self.last_due(entry).await.unwrap_or_default();
            let at_once = (entry.name == "discovery").then(now);
            if let Some(due) = entry.schedule.missed(last, now()).or(at_once) {
                self.fire(entry, due).await;
            }
        }
    }

    /// Runs a job that is due; a failure is stored as its result and logged.
    async fn fire(&self, entry: &Entry, due: Timestamp) {
        let _one_at_a_time = entry.one_at_a_time.lock().await;
        if let Err(fault) = self.run_entry(entry, due).await {
            tracing::error!("job {}: {fault}", entry.name);
        }
    }

    /// Runs a job and stores its result, a failure too.
    ///
    /// # Errors
    /// Fails with the fault of the job, or if the registry cannot be written.
    async fn run_entry(&self, entry: &Entry, due: Timestamp) -> Result<(), Fault> {
        entry.running.store(true, Ordering::Relaxed);
        let (store, name) = (self.registry.store(), entry.name);
        let run = store.write(move |tx| job_runs::start(tx, name, due, now())).await;
        let outcome = (entry.work)(Arc::clone(&self.registry)).await;
        entry.running.store(false, Ordering::Relaxed);
        let _ = store.shrink().await;
        system::give_back_memory();
        let run = run?;
        let result = match &outcome {
            Ok(result) => Json(result.clone()),
            Err(fault) => Json(json!({ "error": fault })),
        };
        let kept = self.registry.config().retention.job_runs;
        store
            .write(move |tx| {
                job_runs::finish(tx, run, now(), &result)?;
                job_runs::keep_newest(tx, name, kept)
            })
            .await?;
        outcome.map(drop)
    }

    /// Returns the time at which the last run of a job was due.
    async fn last_due(&self, entry: &Entry) -> Result<Option<Timestamp>, Fault> {
        let name = entry.name;
        let last = self.registry.store().read(move |c| job_runs::last(c, name)).await?;
        Ok(last.map(|run| run.due))
    }

    /// Returns every job with its last result.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub async fn list(&self) -> Result<JobsResponse, Fault> {
        let mut jobs = Vec::new();
        for entry in &self.table {
            jobs.push(self.describe(entry).await?);
        }
        Ok(JobsResponse { jobs })
    }

    /// Runs a job now, waiting for a run in progress first, and returns it with its result.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such job, or with the fault of its run.
    pub async fn run(self: &Arc<Self>, request: RunJobRequest) -> Result<Job, Fault> {
        let index = self.table.iter().position(|entry| entry.name == request.job);
        let index = index.ok_or_else(|| {
            let names: Vec<_> = self.table.iter().map(|entry| entry.name).collect();
            Fault::new(FaultCode::NotFound, format!("there is no job `{}`", request.job))
                .hint(format!("jobs: {}", names.join(", ")))
        })?;
        let one_at_a_time = Arc::clone(&self.table[index].one_at_a_time).lock_owned().await;
        let jobs = Arc::clone(self);
        // In a task of its own, so that it ends, and is recorded, even if the caller goes away.
        let run = async move {
            let _one_at_a_time = one_at_a_time;
            jobs.run_entry(&jobs.table[index], now()).await
        };
        tokio::spawn(run).await.map_err(Fault::internal)??;
        self.describe(&self.table[index]).await
    }

    async fn describe(&self, entry: &Entry) -> Result<Job, Fault> {
        let name = entry.name;
        Ok(Job {
            name: name.to_owned(),
            schedule: entry.expression.clone(),
            running: entry.running.load(Ordering::Relaxed),
            next_due: entry.schedule.next_after(now()),
            last: self.registry.store().read(move |c| job_runs::last(c, name)).await?,
        })
    }
}

fn entry(name: &'static str, expression: &str, work: Work) -> Result<Entry, Fault> {
    Ok(Entry {
        name,
        expression: expression.to_owned(),
        schedule: schedule::parse(expression).map_err(Fault::internal)?,
        work,
        one_at_a_time: Arc::default(),
        running: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn run_ends_even_if_its_caller_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Registry::of_folder(dir.path()).await).unwrap();
        let cleanup = || RunJobRequest { job: "cleanup".to_owned() };
        timeout(Duration::ZERO, jobs.run(cleanup())).await.unwrap_err();
        // Waits for the run before it.
        jobs.run(cleanup()).await.unwrap();
        let runs = "SELECT count(*) FROM job_runs WHERE finished IS NOT NULL";
        let count =
            jobs.registry.store().read(|c| Ok(c.query_row(runs, [], |row| row.get::<_, i64>(0))?));
        assert_eq!(count.await.unwrap(), 2);
    }
}
