//! The interface over all agent CLIs. Knows no provider.

use std::path::PathBuf;

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, LaunchPlan};

use super::{
    Accepts, Bound, Found, Home, Launch, LaunchFile, Listed, LiveSession, Retention, Start,
    TurnSpec, Unreadable, Verdict,
};

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
