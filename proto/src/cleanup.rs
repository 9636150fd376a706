//! Cleanups: what goes to the trash, what leaves it, what the registry forgets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::spelled;

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

/// What a cleanup does. Transcripts are never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// A session goes to the trash.
    #[default]
    Trash,
    /// A session leaves the trash for good; while its transcript exists it is not found again.
    Purge,
    /// Transcripts of purged sessions are gone, so nothing need be remembered of them.
    ForgetTombstones,
    /// Old events are dropped.
    ForgetEvents,
    /// Old turns are dropped with their output.
    ForgetTurns,
}

spelled!(ActionKind {
    Trash = "trash",
    Purge = "purge",
    ForgetTombstones = "forget_tombstones",
    ForgetEvents = "forget_events",
    ForgetTurns = "forget_turns",
});
