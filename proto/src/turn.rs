//! One prompt and everything that comes back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;
use crate::{Environment, Event, Fault, Session, Timestamp};

/// One prompt to one session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// Made by the caller; a repeated request with the same id runs nothing twice.
    pub id: String,
    /// The session it belongs to.
    pub session_id: String,
    /// The agent that was asked.
    pub agent: String,
    /// The beginning of its prompt: one line, at most 200 characters.
    pub prompt: String,
    /// How far it is.
    pub state: TurnState,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// When the provider was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// The provider knew nothing of what was said before: a fallback let the session begin anew,
    /// and no turn had succeeded since.
    pub lost_context: bool,
}

vocabulary! {
    /// Current state of a turn.
    pub enum TurnState, default Queued {
        /// The turn waits for its session or for a free slot.
        Queued = "queued",
        /// The provider is working on the turn.
        Running = "running",
        /// The provider ended well, reported a result, and worked in the right session.
        Succeeded = "succeeded",
        /// The provider failed, took too long, or worked in another session.
        Failed = "failed",
        /// The turn was stopped on request.
        Cancelled = "cancelled",
        /// The daemon or the machine stopped while the turn was running.
        Interrupted = "interrupted",
    }
}

vocabulary! {
    /// What happens to a prompt whose session cannot be resumed.
    pub enum Fallback, default Fail {
        /// The prompt is refused.
        Fail = "fail",
        /// The session starts over at its provider under the same id, if the old one is proven to
        /// be gone, would be refused, or is in the trash; never if that is unknown.
        New = "new",
    }
}

impl TurnState {
    /// True if nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A prompt for a session, or for a new one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SendRequest {
    /// A UUID made by the caller.
    pub turn_id: String,
    /// The session; with `new_agent` a key, which gets a session when it has none yet.
    pub selector: Option<String>,
    /// Start a new session with this agent; with a key only if that has none, else the key's
    /// must be one of this agent.
    pub new_agent: Option<String>,
    /// The caller's directory: where a new session starts, or whose project's newest is meant.
    pub cwd: String,
    /// Whether a new session starts there even if its agent has a directory of its own.
    pub cwd_given: bool,
    /// What to say.
    pub prompt: String,
    /// Our own time to live of the session from now on, in milliseconds after the last activity.
    pub ttl_ms: Option<i64>,
    /// What to do when the session cannot be resumed.
    pub fallback: Fallback,
    /// How long the provider may take, in milliseconds, at most an hour; else as configured.
    pub timeout_ms: Option<u64>,
    /// Record the provider's own lines too, as events of type `raw`.
    pub raw: bool,
    /// Continue a copy of the session, as one of its own, where the provider can.
    pub fork: bool,
    /// Wait for whoever else has the session, for as long as that takes.
    pub wait: bool,
    /// End the turn of ours that runs in it, or ask the process that has its lease to end.
    pub steal: bool,
    /// The caller's variables, as far as providers declared an interest in them.
    pub environment: Environment,
}

/// The variable that tells a provider, and whatever it starts, the id of the turn that it is in.
pub const TURN_VARIABLE: &str = "SESSD_TURN";

/// The longest prompt, in bytes: it travels in one frame with everything else.
pub const PROMPT_BYTES_MAX: usize = 1_000_000;

/// The longest that a turn may be told to take, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// The turn a prompt became.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SendResponse {
    /// The session it goes to.
    pub session: Session,
    /// The turn.
    pub turn: Turn,
}

/// What to read of a turn's output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TurnOutputRequest {
    /// The turn: its id, or a unique beginning of at least 4 characters.
    pub turn_id: String,
    /// The `seq` of the last event already seen; 0 from the start.
    pub after: i64,
    /// How long to wait for something new, in milliseconds, at most 60,000.
    pub wait_ms: u32,
}

/// A part of a turn's output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnOutput {
    /// The turn as it is now.
    pub turn: Turn,
    /// Events after the one asked for; empty when nothing came in time.
    pub events: Vec<Event>,
    /// The session, once the turn is final and all its events are in this answer.
    pub session: Option<Session>,
}

/// Which turns to list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TurnsRequest {
    /// Only this one: its id, or a unique beginning of at least 4 characters.
    pub turn_id: Option<String>,
    /// Only of this session.
    pub session: Option<String>,
    /// Only in this state.
    pub state: Option<TurnState>,
    /// Turns a page, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// One page of turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnPage {
    /// The turns, newest first.
    pub turns: Vec<Turn>,
    /// Where the next page starts; `null` at the end.
    pub next: Option<String>,
}

/// Which turn to end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequest {
    /// Its id, or a unique beginning of at least 4 characters.
    pub turn_id: String,
}
