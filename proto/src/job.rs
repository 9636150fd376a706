//! Recurring work of the daemon and its last results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Json, Timestamp};

/// Asks for every job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobsRequest {}

/// Every job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobsResponse {
    /// In alphabetical order.
    pub jobs: Vec<Job>,
}

/// One recurring piece of work: idempotent, without input, one run at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its name, e.g. `discovery`.
    pub name: String,
    /// The cron expression it follows (with seconds, in UTC).
    pub schedule: String,
    /// True while it runs.
    pub running: bool,
    /// When it is due next.
    pub next_due: Option<Timestamp>,
    /// Its last run.
    pub last: Option<JobRun>,
}

/// One finished run of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRun {
    /// The moment it was due.
    pub due: Timestamp,
    /// When it started.
    pub started: Timestamp,
    /// When it ended; `null` if the daemon went down in the middle.
    pub finished: Option<Timestamp>,
    /// What it did, in numbers, or `{"error": …}`.
    pub result: Json,
}

/// Runs one job now, after the run that may be under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunJobRequest {
    /// Its name.
    pub job: String,
}
