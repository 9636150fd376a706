//! Turns: one prompt and its output each. Data only: it must not know the daemon or the client.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;
use crate::{Environment, Event, Fault, Session, Timestamp};

/// One prompt to one session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// UUID made by the caller; repeating a request with the same id runs nothing twice.
    pub id: String,
    /// Id of its session.
    pub session_id: String,
    /// Name of the agent.
    pub agent: String,
    /// Beginning of the prompt: one line of at most 200 characters.
    pub prompt: String,
    /// Current state.
    pub state: TurnState,
    /// Time at which it was accepted.
    pub queued_at: Timestamp,
    /// Time at which the provider was started.
    pub started_at: Option<Timestamp>,
    /// Time at which it ended.
    pub finished_at: Option<Timestamp>,
    /// The fault, if it ended without success.
    pub fault: Option<Fault>,
    /// True if the provider did not have the earlier conversation: a fallback had started the
    /// session over, and no turn had succeeded since.
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
    /// Handling of a prompt whose session cannot be resumed.
    pub enum Fallback, default Fail {
        /// The prompt is refused.
        Fail = "fail",
        /// The session starts over at its provider under the same id, if the old one is proven to
        /// be gone, would be refused, or is in the trash; never if that is unknown.
        New = "new",
    }
}

impl TurnState {
    /// True if the turn has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Request of `send`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SendRequest {
    /// Id of the turn: a UUID made by the caller.
    pub turn_id: String,
    /// Selector of the session; `null` means the newest resumable one of `cwd`'s project, or a new
    /// one if `new_agent` is given. With `new_agent` it must be a key.
    pub selector: Option<String>,
    /// Starts a new session with this agent; with a key, only if the key has no session yet, else
    /// its session must be one of this agent.
    pub new_agent: Option<String>,
    /// Absolute path of the caller's directory, in which a new session starts.
    pub cwd: String,
    /// True if `cwd` takes precedence over the agent's own directory.
    pub cwd_given: bool,
    /// The prompt, at most [`PROMPT_BYTES_MAX`] bytes.
    pub prompt: String,
    /// New time to live of the session in milliseconds, counted from its last activity.
    pub ttl_ms: Option<i64>,
    /// The action to take if the session cannot be resumed.
    pub fallback: Fallback,
    /// Time limit for the provider in milliseconds, at most [`TIMEOUT_MS_MAX`]; `null` means as
    /// configured.
    pub timeout_ms: Option<u64>,
    /// Also records the provider's own output lines, as events of type `raw`.
    pub raw: bool,
    /// Sends the prompt to a copy, which becomes a new session, if the provider can fork.
    pub fork: bool,
    /// Waits until no other process has the session, without a time limit.
    pub wait: bool,
    /// Stops the turn that is running in the session, or asks the process with its lease to exit.
    pub steal: bool,
    /// The caller's environment variables that `environment` names.
    pub environment: Environment,
}

/// Environment variable that holds the turn's id for the provider and all processes it starts.
pub const TURN_VARIABLE: &str = "SESSD_TURN";

/// Maximum length of a prompt in bytes; the whole request has to fit into one frame.
pub const PROMPT_BYTES_MAX: usize = 1_000_000;

/// Maximum time limit of a turn, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// Response of `send`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SendResponse {
    /// The session that gets the prompt.
    pub session: Session,
    /// The accepted turn.
    pub turn: Turn,
}

/// Request of `turn_output`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TurnOutputRequest {
    /// Id of the turn, or a unique prefix of it (at least 4 characters).
    pub turn_id: String,
    /// The `seq` of the last event already seen; 0 means from the start.
    pub after: i64,
    /// Time to wait for new events, in milliseconds, at most 60,000.
    pub wait_ms: u32,
}

/// Response of `turn_output`: the next part of the output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnOutput {
    /// The turn in its current state.
    pub turn: Turn,
    /// Events after `after`; empty if none came in time.
    pub events: Vec<Event>,
    /// The session, if the turn has ended and this response contains its last events.
    pub session: Option<Session>,
}

/// Request of `turns`: filters and page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TurnsRequest {
    /// Only the turn with this id, or unique prefix of it (at least 4 characters).
    pub turn_id: Option<String>,
    /// Only turns of the session with this selector.
    pub session: Option<String>,
    /// Only turns in this state.
    pub state: Option<TurnState>,
    /// Maximum number of turns, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the previous page.
    pub after: Option<String>,
}

/// Response of `turns`: one page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnPage {
    /// The turns, newest first.
    pub turns: Vec<Turn>,
    /// Cursor of the next page; `null` if this is the last.
    pub next: Option<String>,
}

/// Request of `cancel`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelRequest {
    /// Id of the turn, or a unique prefix of it (at least 4 characters).
    pub turn_id: String,
}
