//! Diagnostics of the daemon's environment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;

/// Request of `doctor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorRequest {}

/// Response of `doctor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// One finding for each thing that was examined.
    pub findings: Vec<Finding>,
}

/// The result of one examination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Severity.
    pub level: Level,
    /// The thing that was examined, e.g. `PATH`.
    pub subject: String,
    /// The result, as text.
    pub message: String,
    /// Advice, often a command.
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
