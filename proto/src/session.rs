//! One conversation as sessd knows it, and how much of it is known to be alive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;
use crate::{Json, Timestamp};

/// One conversation. The fields are the columns of the registry; absent is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Ours; a UUID that never changes.
    pub id: String,
    /// The provider's id, e.g. `codex`.
    pub provider: String,
    /// The directory the provider keeps its data in.
    pub home: String,
    /// The provider's own id of its current session; `null` while it is starting.
    pub provider_session_id: Option<String>,
    /// Root path of the project: the git top level of the launch directory, else that directory.
    pub project: String,
    /// The launch profile it was started with.
    pub agent: String,
    /// Who talks in it.
    pub kind: Kind,
    /// Where the provider must be started for this session.
    pub launch_dir: String,
    /// Where it last worked.
    pub cwd: Option<String>,
    /// The provider's title, else the first prompt.
    pub title: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// The git branch it last worked on.
    pub git_branch: Option<String>,
    /// What the last check found.
    pub status: Status,
    /// Why, when the status is not `active`, e.g. `transcript_missing`.
    pub reason: Option<String>,
    /// The first record of the transcript.
    pub created_at: Timestamp,
    /// The last record of the transcript.
    pub last_activity: Timestamp,
    /// When `status` was last confirmed.
    pub checked_at: Option<Timestamp>,
    /// When the provider is predicted to delete it. A prediction is never a status.
    pub expires_at: Option<Timestamp>,
    /// Our own time to live, in milliseconds after the last activity.
    pub ttl_ms: Option<i64>,
    /// Protected from every cleanup.
    pub pinned: bool,
    /// When it was put into our trash.
    pub trashed_at: Option<Timestamp>,
    /// The session this one was forked or cleared from.
    pub parent_id: Option<String>,
    /// Counts the changes of this row.
    pub revision: i64,
    /// What callers attached.
    pub metadata: Json,
    /// Prompts the person or program has sent, where known.
    pub turns: Option<i64>,
    /// Input tokens, where the provider records them.
    pub tokens_in: Option<i64>,
    /// Output tokens, where the provider records them.
    pub tokens_out: Option<i64>,
    /// Cost in US dollars, where the provider records it.
    pub cost_usd: Option<f64>,
    /// Labels that protect and select it.
    pub tags: Vec<String>,
    /// Callers' own names for it, e.g. `@discord:42`.
    pub keys: Vec<String>,
    /// Who runs it now; never stored.
    pub live: Live,
}

impl Session {
    /// The beginning of its id, as lists on a terminal show it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

vocabulary! {
    /// How a session was started: interactive, headless or by another agent.
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
/// Who runs a session at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// The state; everything but `none` and `unknown` blocks a second writer.
    pub state: LiveState,
    /// The process that has it.
    pub pid: Option<u32>,
    /// What that process is: its command, or what it is doing.
    pub what: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Live {
    /// True if a second writer would do damage.
    #[must_use]
    pub fn blocks(&self) -> bool {
        !matches!(self.state, LiveState::None | LiveState::Unknown)
    }
}

vocabulary! {
    /// Whether a process has a session now. Anything but `none` and `unknown` blocks a second
    /// writer.
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
    /// What holds the lease of a session, the exclusive right to run it.
    pub enum LeaseKind, default Interactive {
        /// A turn that the daemon runs.
        Turn = "turn",
        /// A process that a user started with `resume` or `new`.
        Interactive = "interactive",
    }
}

/// Which sessions `list` returns, in which order, and where the page starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListRequest {
    /// Only of this project (root path, or any directory in it).
    pub project: Option<String>,
    /// Only of this provider.
    pub provider: Option<String>,
    /// Only of this agent.
    pub agent: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only of this kind; without it subagents are left out.
    pub kind: Option<Kind>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only those that somebody runs now.
    pub busy: bool,
    /// The trash instead of everything else.
    pub trash: bool,
    /// Only with activity at or after this moment.
    pub since: Option<Timestamp>,
    /// The order.
    pub sort: Sort,
    /// Sessions a page, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the page before.
    pub after: Option<String>,
}

vocabulary! {
    /// The order of a list.
    pub enum Sort, default Activity {
        /// By last activity, newest first.
        Activity = "activity",
        /// By creation, newest first.
        Created = "created",
        /// By predicted expiry, soonest first; sessions without a prediction come last.
        Expires = "expires",
    }
}

/// One page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPage {
    /// The sessions, in the order asked for.
    pub sessions: Vec<Session>,
    /// Where the next page starts; `null` at the end.
    pub next: Option<String>,
    /// True while the first sweep after a start still runs, so sessions may be missing.
    pub discovering: bool,
}

/// Which session to show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShowRequest {
    /// `@key`, an id, a provider's id, or a unique prefix (at least 4 characters) of one.
    pub selector: String,
}

/// Which sessions to check now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckRequest {
    /// The sessions; empty means a page of all, newest activity first.
    pub selectors: Vec<String>,
    /// Without selectors: sessions a page, 1 to 500; 0 means 50.
    pub limit: u32,
    /// Without selectors: the `next` of the page before.
    pub after: Option<String>,
    /// Believe that sessions are gone even though more than half of their home vanished at once.
    pub accept_losses: bool,
}
