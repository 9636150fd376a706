//! Status of the daemon. Data only: it must not know the daemon or the client.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Request of `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRequest {}

/// Response of `status`: process, version, paths, counters and problems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// Process id of the daemon.
    pub pid: u32,
    /// Version of the daemon.
    pub version: String,
    /// Protocol version that it speaks.
    pub protocol: u32,
    /// Path of its socket.
    pub socket: String,
    /// Path of the registry's database.
    pub database: String,
    /// Path of the configuration file, which may be missing.
    pub config: String,
    /// Time at which it started.
    pub started_at: Timestamp,
    /// Number of sessions in the registry, including the trash.
    pub sessions: i64,
    /// Number of queued and running turns.
    pub turns_pending: i64,
    /// Number of running turns.
    pub turns_running: i64,
    /// Number of leases that are held.
    pub leases: i64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Current problems as text; empty if the daemon works without restriction.
    pub problems: Vec<String>,
}
