//! Shared by the tests of real sessions: a machine with a real CLI on it, a shell with
//! variables of its own, and the answers of `sessctl` as values.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sessd_proto::session::ListRequest;
use sessd_proto::{Fault, Live, Session, Status};
use sessd_tests::model_server::ModelServer;
use sessd_tests::npm::Cli;
use sessd_tests::real_cli::{Answer, RealCli};
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::terminal::Terminal;
use sessd_tests::wait::{DEADLINE, wait_until};
use sessd_tests::{is_long, report};

use crate::BINARIES;

/// A schedule that never comes during a test.
pub(crate) const NEVER: &str = "0 0 0 29 2 *";

/// A variable in the shell of a caller.
pub(crate) type Variable<'a> = Option<(&'a str, &'a str)>;

/// A machine with one CLI on it, which works in two directories.
pub(crate) struct Scene {
    pub(crate) cli: &'static dyn RealCli,
    /// The version of the CLI.
    pub(crate) version: &'static str,
    // Before the server: what runs in the sandbox may still ask it.
    pub(crate) sandbox: Sandbox,
    pub(crate) server: ModelServer,
    pub(crate) project: PathBuf,
    pub(crate) elsewhere: PathBuf,
}

impl Scene {
    /// `None` if the CLI cannot be installed here. Only what a test asks for happens: no job
    /// comes in between.
    pub(crate) fn of(cli: &'static dyn RealCli) -> Option<Self> {
        Self::at(cli, cli.cli())
    }

    /// Like [`Self::row`], at every version that the present run tests: the pin, and in the long
    /// suite the pin before.
    pub(crate) fn rows(
        cli: &'static dyn RealCli,
        representatives: &[&str],
    ) -> impl Iterator<Item = Self> {
        let versions = if runs(cli, representatives) { usize::MAX } else { 0 };
        let versions = if is_long() { versions } else { versions.min(1) };
        cli.cli().versions().take(versions).filter_map(move |version| Self::at(cli, version))
    }

    fn at(cli: &'static dyn RealCli, version: Cli) -> Option<Self> {
        if only().is_some_and(|only| only != cli.provider()) {
            return None;
        }
        let server = ModelServer::start();
        let mut sandbox = Sandbox::new(BINARIES);
        sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
        sandbox.set_env("SESSD_HEARTBEAT_SCHEDULE", NEVER);
        let [project, elsewhere] = ["project", "elsewhere"].map(|name| sandbox.dir(name));
        let ready = cli.prepare_at(version, &mut sandbox, &server, &[&project, &elsewhere]);
        if ready {
            report::row(cli.provider(), version.version);
        }
        let version = version.version;
        ready.then_some(Self { cli, version, sandbox, server, project, elsewhere })
    }

    /// Like [`Self::of`], for one of several CLIs that a test is run with: `None`, reported as
    /// left to the long suite, unless [`runs`] is true of it.
    pub(crate) fn row(cli: &'static dyn RealCli, representatives: &[&str]) -> Option<Self> {
        if runs(cli, representatives) { Self::of(cli) } else { None }
    }

    /// The provider's id.
    pub(crate) fn provider(&self) -> &'static str {
        self.cli.provider()
    }

    /// Reports something that this test takes for granted of the CLI itself, which no promise of
    /// ours is about. If it no longer holds the test goes on: what it promises is still to be seen.
    #[track_caller]
    pub(crate) fn premise(&self, text: &str, holds: bool) {
        report::premise(self.provider(), self.version, text, holds);
    }

    /// The name of the program.
    pub(crate) fn program(&self) -> &'static str {
        self.cli.cli().name
    }

    /// The home that the CLI has by default.
    pub(crate) fn home(&self) -> PathBuf {
        match self.provider() {
            "opencode" | "kilo" => self.selected(&self.sandbox.home().join(".local/share")),
            name => self.sandbox.home().join(format!(".{name}")),
        }
    }

    /// The variable that selects another home.
    pub(crate) fn variable(&self) -> &'static str {
        match self.provider() {
            "claude" => "CLAUDE_CONFIG_DIR",
            "codex" => "CODEX_HOME",
            "gemini" => "GEMINI_CLI_HOME",
            "qwen" => "QWEN_HOME",
            "cursor" => "CURSOR_CONFIG_DIR",
            _ => "XDG_DATA_HOME",
        }
    }

    /// True if the CLI shows which process has a session.
    pub(crate) fn shows_use(&self) -> bool {
        match self.provider() {
            // Since the version after its pin before.
            "qwen" => self.version == self.cli.cli().version,
            provider => matches!(provider, "claude" | "codex" | "cursor"),
        }
    }

    /// True if the CLI resumes a session in any directory.
    pub(crate) fn resumes_anywhere(&self) -> bool {
        matches!(self.provider(), "claude" | "codex" | "cursor")
    }

    /// True if all sessions of a home are in one file.
    pub(crate) fn has_database(&self) -> bool {
        matches!(self.provider(), "opencode" | "kilo")
    }

    /// The home that a value of the variable selects.
    pub(crate) fn selected(&self, value: &Path) -> PathBuf {
        match self.provider() {
            "gemini" => value.join(".gemini"),
            name @ ("opencode" | "kilo") => value.join(name),
            _ => value.to_owned(),
        }
    }

    /// Copies a home to where a value of the variable selects it.
    pub(crate) fn copy_home(&self, value: &Path) {
        let target = self.selected(value);
        if self.home().is_dir() {
            copy(&self.home(), &target);
        } else {
            fs::create_dir_all(&target).unwrap();
        }
        // It keeps the settings beside its default home, but inside any other.
        let _ = fs::copy(self.sandbox.home().join(".claude.json"), target.join(".claude.json"));
        // Its index holds absolute paths to the rollouts of the original.
        for entry in fs::read_dir(&target).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains(".sqlite") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// One prompt in a new session in the project.
    pub(crate) fn one_shot(&self, prompt: &str) -> Answer {
        self.cli.one_shot(&self.sandbox, &self.project, prompt)
    }

    /// Runs the CLI to its end in the project.
    pub(crate) fn run(&self, arguments: &[String], variable: Variable<'_>) -> Output {
        let mut command = self.sandbox.command(self.program());
        command.args(arguments).current_dir(&self.project).envs(variable);
        self.sandbox.run(&mut command, DEADLINE)
    }

    /// Our session of this provider session.
    #[track_caller]
    pub(crate) fn session(&self, provider_session_id: &str) -> Session {
        let found = self.find(provider_session_id);
        found.unwrap_or_else(|| panic!("no session {provider_session_id} in the list"))
    }

    /// Our session of this provider session, if it is in the list.
    pub(crate) fn find(&self, provider_session_id: &str) -> Option<Session> {
        let is_it =
            |session: &Session| session.provider_session_id.as_deref() == Some(provider_session_id);
        sessions(&self.sandbox, &["list"]).into_iter().find(is_it)
    }

    /// Opens `sessctl resume …` in a terminal, as from a shell in this directory.
    pub(crate) fn resume(&self, arguments: &[&str], cwd: &Path) -> Terminal {
        self.resume_with(arguments, cwd, None)
    }

    /// The same from a shell with a variable of its own.
    pub(crate) fn resume_with(
        &self,
        arguments: &[&str],
        cwd: &Path,
        variable: Variable<'_>,
    ) -> Terminal {
        let mut command = self.sandbox.command(BINARIES.sessctl);
        command.arg("resume").args(arguments).current_dir(cwd).envs(variable);
        Terminal::spawn(command, 40, 120)
    }

    /// Puts a program that only writes down how it was called in the place of the CLI.
    pub(crate) fn replace_cli(&self) -> Calls {
        Calls::of(&self.sandbox, &[self.program()])
    }
}

/// The providers whose programs start in a second or two. They represent the others, whose starts
/// take up to half a minute on a busy machine, in what is alike for all: each test that is run with
/// others too says which ones differ there.
pub(crate) const QUICK: &[&str] = &["claude", "codex", "cursor"];

/// True if the present test runs with this CLI: in the long suite always, else if it is one of
/// those that represent the others. A run about one provider has all of its rows, and no others.
/// A row that does not run is reported.
pub(crate) fn runs(cli: &dyn RealCli, representatives: &[&str]) -> bool {
    let provider = cli.provider();
    if let Some(only) = only() {
        return only == provider;
    }
    if is_long() || representatives.contains(&provider) {
        return true;
    }
    let test = thread::current().name().unwrap_or_default().to_owned();
    report::left_to_long(&format!("{test}: {provider}"));
    false
}

/// The only provider that the run is about, if `SESSD_TEST_ONLY` names one.
fn only() -> Option<String> {
    env::var("SESSD_TEST_ONLY").ok().filter(|provider| !provider.is_empty())
}

/// The calls of recorders that stand in the place of real programs.
pub(crate) struct Calls {
    log: PathBuf,
}

impl Calls {
    /// From now on calls of these programs are only written down.
    pub(crate) fn of(sandbox: &Sandbox, names: &[&str]) -> Self {
        let log = sandbox.runtime_dir().join("calls");
        let script = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>{}\n", log.display());
        let program = sandbox.script(sandbox.runtime_dir().join("recorder"), script);
        names.iter().for_each(|name| sandbox.link(name, &program));
        Self { log }
    }

    /// Every call so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// Returns the output of `sessctl --json`.
#[track_caller]
pub(crate) fn answer(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let output = sandbox.sessctl(&[&["--json"], arguments].concat());
    assert_eq!(output.status, 0, "{arguments:?}: {output:#?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:#?}"))
}

/// The sessions that a command answers.
#[track_caller]
pub(crate) fn sessions(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Session> {
    let mut answer = answer(sandbox, arguments);
    serde_json::from_value(answer["sessions"].take()).expect("sessions")
}

/// All sessions, when those that were there at the start have been found.
#[track_caller]
pub(crate) fn all_sessions(sandbox: &Sandbox) -> Vec<Session> {
    answer(sandbox, &["status"]);
    wait_until("the end of the first sweep", DEADLINE, || {
        let page = sandbox.client().list(ListRequest::default()).ok()?;
        (!page.discovering).then_some(())
    });
    sessions(sandbox, &["list", "--all"])
}

/// A session after a check.
#[track_caller]
pub(crate) fn check(sandbox: &Sandbox, id: &str) -> Session {
    sessions(sandbox, &["check", id]).swap_remove(0)
}

/// Status and reason of a session.
pub(crate) fn verdict(session: &Session) -> (Status, Option<&str>) {
    (session.status, session.reason.map(sessd_proto::Reason::as_str))
}

/// Returns one session as `show` prints it.
#[track_caller]
pub(crate) fn show(sandbox: &Sandbox, selector: &str) -> Session {
    serde_json::from_value(answer(sandbox, &["show", selector])).expect("a session")
}

/// Runs a job.
#[track_caller]
pub(crate) fn run_job(sandbox: &Sandbox, job: &str) {
    answer(sandbox, &["jobs", "run", job]);
}

/// The fault of a command that must end with this status.
#[track_caller]
pub(crate) fn fault(sandbox: &Sandbox, arguments: &[&str], status: i32) -> Fault {
    let mut command = sandbox.command(BINARIES.sessctl);
    fault_of(sandbox, command.arg("--json").args(arguments), status)
}

/// The same of a command that the test has set up.
#[track_caller]
pub(crate) fn fault_of(sandbox: &Sandbox, command: &mut Command, status: i32) -> Fault {
    let output = sandbox.run(command, DEADLINE);
    assert_eq!(output.status, status, "{command:?}: {output:#?}");
    let mut said: Value = serde_json::from_str(&output.stderr).expect("a fault in JSON");
    serde_json::from_value(said["error"].take()).expect("a fault")
}

/// Waits until the live state of a session is as wanted.
#[track_caller]
pub(crate) fn wait_for_live(
    sandbox: &Sandbox,
    id: &str,
    what: &str,
    wanted: impl Fn(&Live) -> bool,
) -> Live {
    wait_until(what, DEADLINE, || Some(show(sandbox, id).live).filter(&wanted))
}

/// Waits until a CLI that has just opened a session has written down that it did. Gemini CLI
/// first empties the chat and a moment later fills it again: killed in between, it has lost it.
#[track_caller]
pub(crate) fn wait_until_settled(sandbox: &Sandbox, id: &str) {
    wait_until("an opened session to be whole again", DEADLINE, || {
        (check(sandbox, id).status == Status::Active).then_some(())
    });
}

/// True if a process is this one or a descendant of it.
pub(crate) fn is_in(pid: u32, ancestor: u32) -> bool {
    if pid == ancestor {
        return true;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    let parent = parent.and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 1);
    parent.is_some_and(|parent| is_in(parent, ancestor))
}

/// A variable in the environment of a process.
pub(crate) fn variable_of(pid: u32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let value = text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned)
}

/// Copies a tree with the times of its files.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// Ages a file.
pub(crate) fn set_age(path: &Path, age: Duration) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - age).unwrap();
}
