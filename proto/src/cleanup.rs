//! Cleanups: move sessions to the trash, purge it, and drop old events and turns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrashReason;
use crate::vocabulary::vocabulary;

/// Request of `cleanup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CleanupRequest {
    /// Returns the actions without doing them.
    pub dry_run: bool,
}

/// Response of `cleanup`: the actions that were done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CleanupReport {
    /// True if nothing was done.
    pub dry_run: bool,
    /// In order of execution; at most 1,000 sessions for each kind, the longest due first.
    pub actions: Vec<Action>,
    /// The reason why due sessions are kept for now: the clock was set, or there is no earlier
    /// sample of it.
    pub held: Option<String>,
}

/// One step of a cleanup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// Kind of action.
    pub action: ActionKind,
    /// Id of the session, if it is about one.
    pub session_id: Option<String>,
    /// Provider of the session.
    pub provider: Option<String>,
    /// Title of the session.
    pub title: Option<String>,
    /// The reason for the action.
    pub reason: TrashReason,
    /// Number of rows, if it is not about one session.
    pub count: Option<i64>,
}

vocabulary! {
    /// One kind of step in a cleanup. Transcripts are never touched.
    pub enum ActionKind, default Trash {
        /// A session goes to the trash.
        Trash = "trash",
        /// A session leaves the trash for good, and is not discovered again while its transcript
        /// exists.
        Purge = "purge",
        /// Tombstones of purged sessions whose transcripts are gone are dropped.
        ForgetTombstones = "forget_tombstones",
        /// Old events are dropped.
        ForgetEvents = "forget_events",
        /// Old turns are dropped with their output.
        ForgetTurns = "forget_turns",
    }
}
