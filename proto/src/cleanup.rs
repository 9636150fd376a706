//! Cleanups: what goes to the trash, what leaves it, what the registry forgets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;

/// Asks for a cleanup, or for what it would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CleanupRequest {
    /// Only answer the actions.
    pub dry_run: bool,
}

/// What a cleanup did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CleanupReport {
    /// True if nothing was done.
    pub dry_run: bool,
    /// In the order they are done; at most 1,000 sessions of each kind, the longest due first.
    pub actions: Vec<Action>,
    /// Why due sessions are left alone for now: the clock was set, or this was the first look.
    pub held: Option<String>,
}

/// One step of a cleanup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// What is done.
    pub action: ActionKind,
    /// The session, when it is about one.
    pub session_id: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Why, e.g. `ttl`.
    pub reason: String,
    /// How many rows, when it is not about one session.
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
