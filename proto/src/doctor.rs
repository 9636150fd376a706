//! What the daemon sees of its surroundings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;

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

vocabulary! {
    /// Severity of a finding.
    pub enum Level, default Ok {
        /// It works.
        Ok = "ok",
        /// It works with a limitation.
        Warning = "warning",
        /// It does not work.
        Problem = "problem",
    }
}
