//! The interface over all agent CLIs, split by what a caller needs. A provider that lacks
//! something returns `None` for it, and that absence is the capability: nothing is declared twice.
//! Knows no provider.

use std::path::PathBuf;

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, LaunchPlan};

use super::{
    Accepts, Background, Bound, Found, Home, Launch, LaunchFile, Listing, LiveSession, Retention,
    Start, TurnSpec, Unreadable, Verdict, Version, version,
};

/// An agent CLI: its row in [`super::ALL`], and its facets.
pub trait Provider: Send + Sync {
    /// Returns its id, e.g. `codex`.
    fn id(&self) -> &'static str;

    /// Returns the bare name of its program.
    fn program(&self) -> &'static str;

    /// Returns the variables it needs from the caller's shell: keys, proxies, homes.
    fn environment(&self) -> &'static [&'static str];

    /// Returns the homes that this environment selects, the one the CLI would choose first. They
    /// need not exist.
    fn homes(&self, env: &Environment) -> Vec<Home>;

    /// Finds, reads and checks its sessions.
    fn discovery(&self) -> &dyn Discovery;

    /// Plans its interactive starts.
    fn launcher(&self) -> &dyn Launcher;

    /// Plans headless turns and decodes their output; `None` if it cannot run any.
    fn turns(&self) -> Option<&dyn Turns> {
        None
    }

    /// Plans the continuation of a copy of a session; `None` if it cannot copy one.
    fn forks(&self) -> Option<&dyn Forks> {
        None
    }

    /// Returns the kinds of records that its readers have met and do not know.
    fn unknown_records(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the newest version of its program that our tests have run; `None` if it has none.
    fn newest_tested(&self) -> Option<Version> {
        None
    }
}

impl dyn Provider + '_ {
    /// Returns the planner of forks, if a program of this version has them.
    #[must_use]
    pub fn forks_of(&self, version: Option<Version>) -> Option<&dyn Forks> {
        self.forks().filter(|forks| version::has(version, forks.since()))
    }

    /// Returns the reader of live sessions, if a program of this version shows them.
    #[must_use]
    pub fn live_of(&self, version: Option<Version>) -> Option<LiveReader> {
        let discovery = self.discovery();
        discovery.live().filter(|_| version::has(version, discovery.live_since()))
    }

    /// Returns what a program of this version can do with its sessions: its row in
    /// `sessctl providers`.
    #[must_use]
    pub fn capabilities(&self, version: Option<Version>) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            fork: self.forks_of(version).is_some(),
            resume_anywhere: self.launcher().resume_anywhere(),
            send: self.turns().is_some(),
            choose_id: self.launcher().choose_id(),
            foreign_use: self.live_of(version).is_some(),
            retention: self.discovery().retention().is_some(),
        }
    }
}

/// Reads which sessions of a home are open in which processes; `None` if it cannot be told now.
pub type LiveReader = fn(&Home) -> Option<Vec<LiveSession>>;

/// Reads the provider's own deletion of old sessions from its settings; `None` if nothing is
/// deleted by age, or the settings cannot be read.
pub type RetentionReader = fn(&Home) -> Option<Retention>;

/// Returns the files that runs of a session have left beside its transcript, and that would make
/// the CLI delete the transcript: files without a message, proven to belong to this session.
pub type StubReader = fn(&Home, &Bound) -> Vec<PathBuf>;

/// Returns the file to which the CLI appends the next turn of a session, if it is there.
pub type TranscriptFinder = fn(&Home, &Bound) -> Option<PathBuf>;

/// Finding, reading and checking sessions. Free: no model call, no byte written.
pub trait Discovery: Send + Sync {
    /// Returns the directories of a home in which a change hints at a new or changed session.
    /// They must cover every transcript: the shortest one that holds any is the store's root.
    fn watched(&self, home: &Home) -> Vec<PathBuf>;

    /// Lists every transcript of a home, by names and stamps alone. Parts of the store that cannot
    /// be read are the gaps of the listing.
    ///
    /// # Errors
    /// [`Unreadable`] if the store as a whole cannot be read.
    fn list(&self, home: &Home) -> Result<Listing, Unreadable>;

    /// Returns the part of a location that names the session, and is the same for every name of one
    /// transcript. By default the name of the file.
    fn name_in<'a>(&self, location: &'a str) -> &'a str {
        location.rsplit_once('/').map_or(location, |(_, name)| name)
    }

    /// Reads the metadata of one transcript from its head and tail.
    /// `None` if it is not a session, e.g. a file without a single message.
    fn read(&self, home: &Home, location: &str) -> Option<Found>;

    /// Returns a reader of many sessions of a home, for providers where they share something that
    /// has to be read only once; `None` where each is read by itself.
    fn reader(&self, _home: &Home) -> Option<Box<dyn Reader>> {
        None
    }

    /// Returns how the CLI makes the scope of a session of the real path of its launch directory,
    /// character by character; `None` if it does not. With it the new path of a directory that was
    /// renamed together with its sessions is found.
    fn scope_of(&self) -> Option<fn(&str) -> String> {
        None
    }

    /// Returns whether the CLI itself would resume this session now. Where versions of it differ,
    /// [`Verdict::lifted_by`] says so. Must agree with the verdict of [`Discovery::read`].
    /// `Expired` only if the part of the store that would hold the session could be listed, and the
    /// session is not in it.
    fn check(&self, home: &Home, bound: &Bound) -> Verdict;

    /// True if the CLI has silently started another conversation under the id of this one.
    fn was_replaced(&self, _home: &Home, _bound: &Bound) -> bool {
        false
    }

    /// Returns the reader of live sessions; `None` if the CLI never shows which process has which
    /// session.
    fn live(&self) -> Option<LiveReader> {
        None
    }

    /// Returns the first version of the CLI that shows its live sessions; `None` if all do.
    fn live_since(&self) -> Option<Version> {
        None
    }

    /// Returns the arguments that reach a session that runs in the background, where no terminal
    /// shows it; `None` if it does not.
    fn background(&self, _home: &Home, _bound: &Bound) -> Option<Background> {
        None
    }

    /// Returns the sessions that our own processes have provably started. Asked only where the
    /// live sessions are not shown.
    fn started_by(&self, _home: &Home, _starts: &[Start]) -> Vec<LiveSession> {
        Vec::new()
    }

    /// Returns the reader of the CLI's retention rule; `None` if the CLI never deletes by age.
    fn retention(&self) -> Option<RetentionReader> {
        None
    }

    /// Returns the reader of the stubs that runs leave; `None` if they leave none.
    fn stubs(&self) -> Option<StubReader> {
        None
    }

    /// Returns the finder of the file to which the next turn is appended; `None` if the CLI itself
    /// ends a last line that is torn. Where it does not, it glues the next record to that line,
    /// and both are lost.
    fn appends_to(&self) -> Option<TranscriptFinder> {
        None
    }

    /// Returns the test of whether a scope stands for a directory that no transcript in it names;
    /// `None` if the transcripts or the store name every directory.
    fn is_of_directory(&self) -> Option<fn(&str, &str) -> bool> {
        None
    }
}

impl dyn Discovery {
    /// Returns a reader of many sessions of a home.
    #[must_use]
    pub fn reader_of(&'static self, home: &Home) -> Box<dyn Reader> {
        let one_by_one = || Box::new(OneByOne { discovery: self, home: home.clone() });
        self.reader(home).unwrap_or_else(|| one_by_one())
    }
}

/// Reads and checks many sessions of one home. What they share, e.g. the transcript that many were
/// forked from, is read once. Made for one import or one call, because files change.
pub trait Reader: Send + Sync {
    /// Reads transcripts, with one result for each location, as [`Discovery::read`] would.
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>>;

    /// Returns the verdict on a session, as [`Discovery::check`] would.
    fn check(&self, bound: &Bound) -> Verdict;
}

/// The reader where sessions share nothing.
struct OneByOne {
    discovery: &'static dyn Discovery,
    home: Home,
}

impl Reader for OneByOne {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| self.discovery.read(&self.home, location)).collect()
    }

    fn check(&self, bound: &Bound) -> Verdict {
        self.discovery.check(&self.home, bound)
    }
}

/// Planning interactive starts, with a person at a terminal.
///
/// The `env` of every plan must hold `home.env` unchanged, else the CLI works in another home. The
/// one exception is a plan whose own files ([`Launcher::files`]) include a home that links to the
/// session's.
pub trait Launcher: Send + Sync {
    /// True if a session can be resumed in any directory, not only in its launch directory.
    fn resume_anywhere(&self) -> bool {
        false
    }

    /// True if we may choose the id of a new session.
    fn choose_id(&self) -> bool {
        false
    }

    /// Returns the provider's id of a new session that has this id with us, where we may choose
    /// it. The same id gives the same result, since requests may be repeated.
    fn new_id(&self, id: &str) -> String {
        id.to_owned()
    }

    /// Returns the options of an agent that the CLI supports. By default none: then the
    /// configuration refuses an agent with, say, a `model`.
    fn accepts(&self) -> Accepts {
        Accepts::default()
    }

    /// Returns why the CLI would not start with this launch in this environment, although it
    /// accepts each of its options; `None` if it would.
    fn refuses(&self, _launch: &Launch, _env: &Environment) -> Option<String> {
        None
    }

    /// Returns the files that a plan for this launch names, by [`Launch::file`]. What is secret
    /// must be in one of them and not in an argument, which every user of the machine can read.
    /// The registry writes them before the start.
    fn files(&self, _home: &Home, _launch: &Launch, _plan: &LaunchPlan) -> Vec<LaunchFile> {
        Vec::new()
    }

    /// Switches off, in a plan, the MCP servers of the user's and the project's settings that the
    /// launch does not name. Needed where the CLI would merge both. It reads the project's disk,
    /// so the registry calls it where that may take long.
    fn without_other_servers(&self, _home: &Home, _launch: &Launch, _plan: &mut LaunchPlan) {}

    /// Returns the plan that continues a session. It starts in `cwd`, else in the session's launch
    /// directory; without [`Launcher::resume_anywhere`] always in the latter.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan;

    /// Returns the plan that starts a session, with the id that we chose, where we may.
    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan;

    /// Returns a plan that makes the CLI report the MCP servers and tools of such a launch, and
    /// what to write to its standard input for that: no model call, no session. The report is the
    /// `started` event of [`Turns::decode`]. `None` if the CLI has no such report.
    fn plan_tools(
        &self,
        _home: &Home,
        _cwd: &str,
        _launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        None
    }
}

/// Planning the continuation of a copy of a session, as a session of its own. Plans keep
/// `home.env`, like those of [`Launcher`].
pub trait Forks: Send + Sync {
    /// Returns the first version of the CLI that can copy a session; `None` if all can.
    fn since(&self) -> Option<Version> {
        None
    }

    /// True if we may choose the id of the copy, as that of a new session.
    fn choose_id(&self) -> bool {
        true
    }

    /// Returns the plan that continues a copy at a terminal, with the id that we chose, where we
    /// may.
    fn plan(
        &self,
        home: &Home,
        bound: &Bound,
        id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan;

    /// Returns the plan of one turn in a copy of `spec.resume`, with the id `spec.new_id`.
    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> LaunchPlan;
}

/// The way a prompt gets into the CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptVia {
    /// The prompt is all of standard input.
    Stdin,
    /// The prompt is the last argument, after `--`. This limits its size.
    Argument,
}

/// Headless turns: one prompt, and the output until the process ends.
pub trait Turns: Send + Sync {
    /// Returns how many of its processes may run a turn at the same time without harm.
    fn max_concurrent(&self) -> usize {
        usize::MAX
    }

    /// Returns how the prompt gets into the CLI. A plan does not contain it: the registry adds it.
    fn prompt(&self) -> PromptVia {
        PromptVia::Stdin
    }

    /// Returns the plan of one turn: it continues `spec.resume`, or starts a session with the id
    /// `spec.new_id`. Like the plans of [`Launcher`] its `env` must hold `home.env`. `None` if a
    /// new session needs an id and has none.
    fn plan(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan>;

    /// Returns the events in one line of a turn's standard output; none for a line that is unknown
    /// or garbage. `seq`, `at` and `session_id` are set by the caller.
    ///
    /// **A turn succeeds only if all of this is true**; a decoder that leaves one event out makes
    /// every turn fail:
    /// 1. the process ends by itself with exit code 0, before the deadline;
    /// 2. there was a `started` event with `provider_session_id` in its data;
    /// 3. that id is the one of the session that was asked for. The last `started` counts, so a CLI
    ///    that silently starts another conversation is found out. For a new session it is the id to
    ///    store;
    /// 4. there was a `result` event. The last one counts.
    ///
    /// The events by `type`, with what is in `text` and in `data`:
    /// - `started`: data has `provider_session_id`, and `model`, `tools`, `mcp_servers` where the
    ///   CLI shows them.
    /// - `text`, `thinking`: words of the answer, or of the model's reasoning. With `delta: true`
    ///   they are a part of a longer text; the whole may follow and is then dropped.
    /// - `tool_call`: data has `id`, `name`, `input`.
    /// - `tool_result`: the tool's output; data has the `id` of the call.
    /// - `usage`: data has token counts, in the CLI's own words.
    /// - `result`: the answer; no text if the `text` events are the answer. With `doubtful: true`
    ///   it may be the words of a failed call: it does not count after an `error`.
    /// - `error`: the failure in the CLI's words; data as of `failure::event`.
    /// - `retry`: a call failed and the CLI waits to try again; data as of `failure::retry`.
    /// - `rate_limit`: data has `until`, when the limit that was reached ends.
    ///
    /// The words of a subagent are not part of the answer and must not become `text`. An `error`
    /// alone does not fail a turn: many CLIs report one and try again.
    fn decode(&self, line: &str) -> Vec<Event>;

    /// Returns an `error` event from the end of what a turn wrote to standard error, where that
    /// says more than its output. It only fills in what the events left open.
    fn explain(&self, _stderr: &str) -> Option<Event> {
        None
    }
}
