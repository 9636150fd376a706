//! What the daemon sees of its surroundings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::spelled;

/// Asks what the daemon sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorRequest {}

/// What the daemon sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// One finding for each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was looked at, e.g. `PATH`.
    pub subject: String,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    #[default]
    Ok,
    /// Works, with a limit.
    Warning,
    /// Does not work.
    Problem,
}

spelled!(Level { Ok = "ok", Warning = "warning", Problem = "problem" });
