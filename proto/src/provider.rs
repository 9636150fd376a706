//! Providers as data: program, homes and capabilities. Names no provider.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;

/// Request of `providers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvidersRequest {}

/// Response of `providers`: every provider that the daemon supports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvidersResponse {
    /// In a fixed order.
    pub providers: Vec<ProviderInfo>,
}

/// One provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderInfo {
    /// Id of the provider.
    pub name: String,
    /// Path of its program; `null` if the daemon does not find it.
    pub program: Option<String>,
    /// Installed version, if it can be read without running the program.
    pub version: Option<String>,
    /// The homes that sessd reads.
    pub homes: Vec<HomeInfo>,
    /// Number of its sessions in the registry.
    pub sessions: i64,
    /// Operations that sessd has for its sessions.
    pub capabilities: Capabilities,
}

/// A directory in which a provider keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HomeInfo {
    /// Absolute path.
    pub path: String,
    /// State of the home.
    pub state: HomeState,
    /// Details, unless the state is `ok`.
    pub detail: Option<String>,
}

vocabulary! {
    /// State of a provider's home.
    pub enum HomeState, default Ok {
        /// The home can be read.
        Ok = "ok",
        /// The home does not exist.
        Missing = "missing",
        /// A part of the home cannot be read; everything else in it is listed.
        Incomplete = "incomplete",
        /// The home cannot be read, or its disk does not respond.
        Unreadable = "unreadable",
        /// Too many of its sessions disappeared at once: none is marked as gone until they are
        /// back or `sessctl check --all --accept-losses` accepts the loss.
        Held = "held",
    }
}

/// Abilities of a provider: what sessd can do with its sessions. Each value is tested with the
/// real CLI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Sessions are discovered on disk.
    pub discover: bool,
    /// Sessions can be checked without a model call.
    pub check: bool,
    /// Sessions can be resumed in a terminal.
    pub resume: bool,
    /// A copy of a session can be continued as a new session.
    pub fork: bool,
    /// Sessions can be resumed in any directory.
    pub resume_anywhere: bool,
    /// Single prompts can be sent.
    pub send: bool,
    /// sessd can choose the id of a new session.
    pub choose_id: bool,
    /// Processes that sessd did not start are seen on sessions.
    pub foreign_use: bool,
    /// The provider's own deletion of old sessions is predicted.
    pub retention: bool,
}
