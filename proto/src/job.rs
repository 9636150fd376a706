//! Recurring jobs of the daemon and their last results. Data only: it must not know the daemon or
//! the client.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Json, Timestamp};

/// Request of `jobs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobsRequest {}

/// Response of `jobs`: every job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobsResponse {
    /// Sorted by name.
    pub jobs: Vec<Job>,
}

/// One recurring job: idempotent, without input, one run at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Name of the job, e.g. `discovery`.
    pub name: String,
    /// Cron expression with seconds, in UTC.
    pub schedule: String,
    /// True while it runs.
    pub running: bool,
    /// Time of the next run.
    pub next_due: Option<Timestamp>,
    /// The last run.
    pub last: Option<JobRun>,
}

/// One finished run of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRun {
    /// Time at which it was due.
    pub due: Timestamp,
    /// Time at which it started.
    pub started: Timestamp,
    /// Time at which it finished; `null` if the daemon stopped before that.
    pub finished: Option<Timestamp>,
    /// An object of counters, or `{"error": FAULT}`.
    pub result: Json,
}

/// Request of `run_job`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunJobRequest {
    /// Name of the job.
    pub job: String,
}
