//! How the daemon is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Asks how the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRequest {}

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// The socket it listens on.
    pub socket: String,
    /// The registry's file.
    pub database: String,
    /// The configuration file it looked for.
    pub config: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Sessions in the registry, trash included.
    pub sessions: i64,
    /// Turns that wait or run.
    pub turns_pending: i64,
    /// Those of them that run.
    pub turns_running: i64,
    /// Leases that are held.
    pub leases: i64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// What is wrong; while this is not empty the daemon is degraded or reports a loss.
    pub problems: Vec<String>,
}
