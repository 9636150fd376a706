//! What an agent CLI can do, as data. No provider is named here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;

/// Asks for every provider this daemon knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvidersRequest {}

/// Every provider this daemon knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvidersResponse {
    /// In the daemon's fixed order.
    pub providers: Vec<ProviderInfo>,
}

/// One provider as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderInfo {
    /// The provider's id.
    pub name: String,
    /// Where the daemon finds its program; `null` when it does not.
    pub program: Option<String>,
    /// The installed version, where it can be told without running the program.
    pub version: Option<String>,
    /// The homes it is read from.
    pub homes: Vec<HomeInfo>,
    /// How many of its sessions are in the registry.
    pub sessions: i64,
    /// What can be done with its sessions.
    pub capabilities: Capabilities,
}

/// A directory a provider keeps its data in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HomeInfo {
    /// The directory.
    pub path: String,
    /// `ok`, or why it cannot be read: `missing`, `unreadable`, `held`.
    pub state: String,
    /// Details of a state that is not `ok`.
    pub detail: Option<String>,
}

vocabulary! {
    /// State of a provider's home.
    pub enum HomeState, default Ok {
        /// The home can be read.
        Ok = "ok",
        /// The home does not exist.
        Missing = "missing",
        /// The home cannot be read, or its disk does not respond.
        Unreadable = "unreadable",
        /// Too many of its sessions disappeared at once: none is marked as gone until they are
        /// back or `sessctl check --all --accept-losses` accepts the loss.
        Held = "held",
    }
}

/// One row of the capability table. Every cell is proven by a test against the real CLI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Its sessions are found on disk.
    pub discover: bool,
    /// Resumability is checked for free.
    pub check: bool,
    /// An interactive resume is possible.
    pub resume: bool,
    /// A copy of a session can be continued as a session of its own.
    pub fork: bool,
    /// A resume may start in any directory.
    pub resume_anywhere: bool,
    /// One-shot turns are possible.
    pub send: bool,
    /// The id of a new session can be chosen by us.
    pub choose_id: bool,
    /// Processes that were not started by us are seen on its sessions.
    pub foreign_use: bool,
    /// Its own deletion of old sessions is predicted.
    pub retention: bool,
}
