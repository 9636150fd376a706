//! The one interface over all agent CLIs, and the table of those we know.
//!
//! A provider is one file here: readers of its store, a builder of command lines, a decoder of
//! its output. It performs no I/O beyond reading its own store, writes nothing anywhere, starts
//! no process, and knows neither our registry nor the socket. Readers are tolerant: unknown
//! records, torn lines and garbage are skipped. Verdicts are strict.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Kind, LaunchPlan, Live, Status, Timestamp};

pub mod claude;
pub mod codex;
pub mod cursor;
pub mod echo;
pub mod failure;
pub mod gemini;
pub mod head_tail;
pub mod jsonc;
pub mod launch;
pub mod listing;
pub mod locks;
pub mod opencode;
pub mod output;
pub mod qwen;
pub mod record;
mod sqlite;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod permissions;

pub use launch::{Accepts, Launch, LaunchFile, McpServer, Permission};

/// Every provider, in the order shown to people.
pub static ALL: &[&dyn Provider] = &[
    &claude::Claude,
    &codex::Codex,
    &gemini::Gemini,
    &opencode::OPENCODE,
    &opencode::KILO,
    &qwen::Qwen,
    &cursor::Cursor,
    &echo::Echo,
];

/// The provider with this id.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static dyn Provider> {
    ALL.iter().copied().find(|provider| provider.id() == id)
}

/// A directory a provider keeps its data in, and the environment that selects it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// Variables to set when the provider is started for this home; `None` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// One transcript as a directory listing shows it, nothing read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path of the transcript; of a row, that of its database, `#`, and its id.
    pub location: String,
    /// Changes whenever the transcript changes.
    pub stamp: Stamp,
}

/// A cheap fingerprint of a file, or of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes; of a row, a number made from its columns.
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Inode number; of a row, nothing.
    pub inode: u64,
}

/// Why a home cannot be listed. Nothing may be concluded about its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The store is not there.
    Missing,
    /// The store is there but cannot be read completely.
    Denied(String),
}

/// What the transcript of a session says about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The provider's own id.
    pub provider_session_id: String,
    /// What makes that id unique within the home, or empty.
    pub scope: String,
    /// Who talks in it.
    pub kind: Kind,
    /// Where the provider must be started for it.
    pub launch_dir: String,
    /// Where it last worked.
    pub cwd: Option<String>,
    /// The provider's title, else the first prompt; one line, at most 200 characters.
    pub title: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// The git branch it last worked on.
    pub git_branch: Option<String>,
    /// The first record.
    pub created_at: Timestamp,
    /// The last record.
    pub last_activity: Timestamp,
    /// The provider's id of the session it was forked from.
    pub parent: Option<String>,
    /// Whether the provider would resume it.
    pub verdict: Verdict,
}

/// Status and reason: the answer of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was found.
    pub status: Status,
    /// Why, when the status is not `active`.
    pub reason: Option<&'static str>,
}

impl Verdict {
    /// It can be resumed.
    pub const ACTIVE: Self = Self { status: Status::Active, reason: None };

    /// A verdict that needs a reason.
    #[must_use]
    pub const fn new(status: Status, reason: &'static str) -> Self {
        Self { status, reason: Some(reason) }
    }
}

/// What a provider is told about a session of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The provider's own id.
    pub provider_session_id: String,
    /// What makes that id unique within the home, or empty.
    pub scope: String,
    /// Where the transcript was last seen.
    pub location: String,
    /// Where the provider must be started for it.
    pub launch_dir: String,
}

/// A provider's own deletion of old sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// What the age is counted from.
    pub basis: Basis,
    /// The age at which the provider deletes, in milliseconds.
    pub age_ms: i64,
}

/// What the age of a session is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The modification time of the transcript.
    Modified,
    /// The last activity recorded in the transcript.
    LastActivity,
}

/// A process that has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The provider's own id of the session.
    pub provider_session_id: String,
    /// Its scope, where the provider shows it.
    pub scope: Option<String>,
    /// Who runs it.
    pub live: Live,
}

/// A process that was started for a session whose id at the provider is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The process.
    pub pid: u32,
    /// When it got the session.
    pub since: Timestamp,
    /// Where it was started.
    pub launch_dir: String,
}

/// One prompt to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnSpec {
    /// The session to continue; `None` starts a new one.
    pub resume: Option<Bound>,
    /// The id a new session shall have, where the provider lets us choose.
    pub new_id: Option<String>,
    /// Where to start.
    pub cwd: String,
    /// What its agent asks for.
    pub launch: Launch,
}

/// An agent CLI.
pub trait Provider: Send + Sync {
    /// Its id, e.g. `codex`.
    fn id(&self) -> &'static str;

    /// The bare name of its program.
    fn program(&self) -> &'static str;

    /// What can be done with its sessions.
    fn capabilities(&self) -> Capabilities;

    /// The variables it needs from the caller's shell: keys, proxies, homes.
    fn environment(&self) -> &'static [&'static str];

    /// The homes that this environment selects; they need not exist.
    fn homes(&self, env: &Environment) -> Vec<Home>;

    /// Directories of a home in which changes hint at new or changed sessions.
    fn watched(&self, home: &Home) -> Vec<PathBuf>;

    /// Lists every transcript of a home, by names and stamps alone.
    ///
    /// # Errors
    /// [`Unreadable`] when the listing is not complete, for whatever reason.
    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable>;

    /// Reads the metadata of one transcript from its head and tail.
    /// `None` when it is not a session, e.g. a file without a single message.
    fn read(&self, home: &Home, location: &str) -> Option<Found>;

    /// Reads several transcripts; faster than one by one where they are in one file.
    fn read_all(&self, home: &Home, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| self.read(home, location)).collect()
    }

    /// Whether the provider would resume this session now. Free: no model call, no byte written.
    /// `Expired` only if the store exists, could be listed, and the session is not in it.
    fn check(&self, home: &Home, bound: &Bound) -> Verdict;

    /// Whether the CLI has begun another conversation under the id of this one, in silence.
    fn began_anew(&self, _home: &Home, _bound: &Bound) -> bool {
        false
    }

    /// The processes that have sessions of this home; `None` when the provider does not show it.
    fn live(&self, home: &Home) -> Option<Vec<LiveSession>>;

    /// What processes of ours have begun, as far as that is beyond doubt; asked where `live`
    /// does not show it.
    fn begun(&self, _home: &Home, _starts: &[Start]) -> Vec<LiveSession> {
        Vec::new()
    }

    /// Its own deletion of old sessions, from its settings.
    fn retention(&self, home: &Home) -> Option<Retention>;

    /// What its launches can be asked for, beside arguments and variables.
    fn accepts(&self) -> Accepts {
        Accepts::default()
    }

    /// Why it would not start so in this environment, although it accepts each part.
    fn refuses(&self, _launch: &Launch, _env: &Environment) -> Option<String> {
        None
    }

    /// The files that its plans for this launch name, by [`Launch::file`]: what is secret must
    /// not be an argument, which everybody may read. The registry writes them before the start.
    fn launch_files(&self, _home: &Home, _launch: &Launch) -> Vec<LaunchFile> {
        Vec::new()
    }

    /// Switches off in a plan the MCP servers of its own settings that the launch does not name,
    /// where it would have both. The registry asks for it where a look at a disk may take long.
    fn without_other_servers(&self, _home: &Home, _launch: &Launch, _plan: &mut LaunchPlan) {}

    /// How to continue a session at a terminal, in its launch directory or in `cwd`.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan;

    /// How to begin a session at a terminal, with the id that we chose, where we can.
    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan;

    /// How to continue a copy of a session at a terminal, with the id that we chose for it, where
    /// we can. Asked only of providers that can.
    fn plan_fork(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        self.plan_resume(home, bound, Some(cwd), launch)
    }

    /// How many of its processes may run a turn at the same time without harm.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    /// How to send one prompt; `None` where that is not built yet.
    fn plan_turn(&self, _home: &Home, _spec: &TurnSpec) -> Option<LaunchPlan> {
        None
    }

    /// How to have it tell by the event `started` which servers and tools such a launch gives it,
    /// and what to feed it for that: no model call, no session. `None` where it tells nothing.
    fn plan_tools(
        &self,
        _home: &Home,
        _cwd: &str,
        _launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        None
    }

    /// The same to a copy of the session to continue, as a session of its own with the new id;
    /// `None` where that cannot be done.
    fn plan_fork_turn(&self, _home: &Home, _spec: &TurnSpec) -> Option<LaunchPlan> {
        None
    }

    /// Whether it takes the prompt of a turn from standard input. If not, the prompt is its last
    /// argument, after `--`.
    fn reads_prompt(&self) -> bool {
        true
    }

    /// The events in one line of a turn's output; `seq`, `at` and `session_id` are the caller's.
    fn decode(&self, _line: &str) -> Vec<Event> {
        Vec::new()
    }

    /// The `error` event in the end of what a turn wrote to standard error, where that says more
    /// than its output.
    fn explain(&self, _stderr: &str) -> Option<Event> {
        None
    }
}
