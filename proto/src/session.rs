//! Sessions: one conversation each, with status and live state; and the requests that read them.
//! Data only: it must not know the daemon or the client.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;
use crate::{Environment, Json, Reason, Timestamp};

/// One conversation. What is unknown is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// sessd's id: a UUID that never changes.
    pub id: String,
    /// Id of the provider.
    pub provider: String,
    /// The provider's home that holds the session.
    pub home: String,
    /// The provider's own id; `null` until the provider has chosen it.
    pub provider_session_id: Option<String>,
    /// Root path of the project: the git top level of the launch directory, else that directory
    /// itself.
    pub project: String,
    /// Name of the agent that it was started with.
    pub agent: String,
    /// The kind of its start: interactive, headless or by another agent.
    pub kind: Kind,
    /// Launch directory: where the provider must be started to resume it.
    pub launch_dir: String,
    /// Directory in which it last worked.
    pub cwd: Option<String>,
    /// The user's title, else the provider's, else the beginning of the first prompt.
    pub title: Option<String>,
    /// Beginning of the last prompt.
    pub last_prompt: Option<String>,
    /// Model of the last answer.
    pub model: Option<String>,
    /// Git branch on which it last worked.
    pub git_branch: Option<String>,
    /// Result of the last check.
    pub status: Status,
    /// The reason for a status other than `active`, or the danger that an active session is in.
    pub reason: Option<Reason>,
    /// Time of the first record in the transcript.
    pub created_at: Timestamp,
    /// Time of the last record in the transcript.
    pub last_activity: Timestamp,
    /// Time of the last check.
    pub checked_at: Option<Timestamp>,
    /// Predicted time at which the provider will delete it.
    pub expires_at: Option<Timestamp>,
    /// Time to live in milliseconds, counted from the last activity.
    pub ttl_ms: Option<i64>,
    /// True if cleanups leave it alone.
    pub pinned: bool,
    /// Time at which it was moved to the trash; `null` if it is not in it.
    pub trashed_at: Option<Timestamp>,
    /// Id of the session that it was forked from, or that `/clear` has ended.
    pub parent_id: Option<String>,
    /// Incremented with every change of the registry's row.
    pub revision: i64,
    /// JSON attached by callers. Always empty: no call sets it yet.
    pub metadata: Json,
    /// Number of turns that sessd ran in it and that succeeded; `null` before the first.
    pub turns: Option<i64>,
    /// Input tokens of its turns, cached ones included; `null` where the provider does not report
    /// them per turn.
    pub tokens_in: Option<i64>,
    /// Output tokens of its turns; `null` where the provider does not report them per turn.
    pub tokens_out: Option<i64>,
    /// Cost of its turns in US dollars; `null` where the provider does not report it per turn.
    pub cost_usd: Option<f64>,
    /// Tags.
    pub tags: Vec<String>,
    /// Keys, e.g. `@discord:42`.
    pub keys: Vec<String>,
    /// Live state at the time of the call.
    pub live: Live,
}

impl Session {
    /// Returns the first 8 characters of the id, as lists on a terminal show it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

vocabulary! {
    /// The kind of a session's start: interactive, headless or by another agent.
    pub enum Kind, default Interactive {
        /// By a person at a terminal.
        Interactive = "interactive",
        /// By a script or bot, for one prompt at a time.
        Headless = "headless",
        /// By another agent; lists leave these out unless asked for them.
        Subagent = "subagent",
    }
}

vocabulary! {
    /// Result of the last check of a session.
    pub enum Status, default Unknown {
        /// The session can be resumed.
        Active = "active",
        /// The provider itself has archived the session.
        Archived = "archived",
        /// The session is gone at its provider, or past its time to live.
        Expired = "expired",
        /// The session exists, but its provider would refuse it or start an empty one instead.
        Invalid = "invalid",
        /// The session has not been checked yet, or cannot be checked now.
        Unknown = "unknown",
    }
}
/// The process that has a session at this moment, if any. Never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// The state.
    pub state: LiveState,
    /// Id of the process.
    pub pid: Option<u32>,
    /// Command of the process, or what it is doing.
    pub what: Option<String>,
    /// Time since which it has the session.
    pub since: Option<Timestamp>,
}

impl Live {
    /// True if another writer has to be kept out: the state is neither `none` nor `unknown`.
    #[must_use]
    pub fn blocks(&self) -> bool {
        !matches!(self.state, LiveState::None | LiveState::Unknown)
    }
}

vocabulary! {
    /// State of the process that has a session now, if any. All but `none` and `unknown` keep a
    /// second writer out.
    pub enum LiveState, default Unknown {
        /// No process has the session.
        None = "none",
        /// A process has the session and is idle.
        Open = "open",
        /// A process is working in the session.
        Busy = "busy",
        /// A process is waiting for input or permission.
        Waiting = "waiting",
        /// The provider does not show which process has the session.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// Holder of a lease, the exclusive right to run a session.
    pub enum LeaseKind, default Interactive {
        /// A turn that the daemon runs.
        Turn = "turn",
        /// A process that a user started with `resume` or `new`.
        Interactive = "interactive",
    }
}

/// Request of `list`: filters, order and page. Filters are combined with AND.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListRequest {
    /// Only sessions of the project that contains this directory (absolute path).
    pub project: Option<String>,
    /// Only sessions of this provider.
    pub provider: Option<String>,
    /// Only sessions of this agent.
    pub agent: Option<String>,
    /// Only sessions with this status.
    pub status: Option<Status>,
    /// Only sessions of this kind; `null` means all but subagents.
    pub kind: Option<Kind>,
    /// Only sessions with this tag.
    pub tag: Option<String>,
    /// Only sessions that a process has now.
    pub busy: bool,
    /// Lists the trash instead.
    pub trash: bool,
    /// Only sessions with activity at or after this time.
    pub since: Option<Timestamp>,
    /// Order of the list.
    pub sort: Sort,
    /// Maximum number of sessions, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the previous page.
    pub after: Option<String>,
    /// The caller's environment, as `environment` names it: homes that it selects are looked
    /// through first if they are new.
    pub environment: Environment,
}

vocabulary! {
    /// The order of a list. To read all pages of a list as a whole, take `created`: in another
    /// order a session may move past the cursor between two pages.
    pub enum Sort, default Activity {
        /// By last activity, newest first.
        Activity = "activity",
        /// By creation, newest first.
        Created = "created",
        /// By predicted expiry, soonest first; sessions without a prediction come last.
        Expires = "expires",
    }
}

/// Response of `list` and `check`: one page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPage {
    /// The sessions, in the requested order.
    pub sessions: Vec<Session>,
    /// Cursor of the next page; `null` if this is the last.
    pub next: Option<String>,
    /// True while the first sweep after a start is running, so that sessions may be missing.
    pub discovering: bool,
    /// Parts of providers' homes that cannot be read, so that sessions may be missing; at most 100.
    pub unreadable: Vec<UnreadablePart>,
}

/// A part of a provider's home that cannot be read now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadablePart {
    /// Id of the provider.
    pub provider: String,
    /// Path of the home.
    pub home: String,
    /// Path of the part; the home itself if nothing in it can be read.
    pub path: String,
    /// The error.
    pub error: String,
}

/// Request of `show`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShowRequest {
    /// A key (`@name`), an id, a provider's id, or a unique prefix of one (at least 4 characters).
    pub selector: String,
}

/// Request of `check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckRequest {
    /// Selectors of the sessions; empty means a page of all sessions, newest activity first.
    pub selectors: Vec<String>,
    /// Without selectors: maximum number of sessions, 1 to 500; 0 means 50.
    pub limit: u32,
    /// Without selectors: the `next` of the previous page.
    pub after: Option<String>,
    /// Accepts that sessions are gone even if more than half of their home disappeared at once.
    pub accept_losses: bool,
}
