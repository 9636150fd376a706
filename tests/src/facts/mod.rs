//! The facts of one version of a CLI that sessd is built on, as a sheet that can be compared with
//! that of another version. Runs the CLI against the model server. A sheet has no text of a vendor,
//! nothing secret and nothing of the machine. Knows nothing of sessd.

mod changes;
mod files;
mod help;
mod records;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use changes::changes;
use serde_json::{Map, Value, json};

use crate::model_server::ModelServer;
use crate::npm::Cli;
use crate::real_cli::RealCli;
use crate::sandbox::{Binaries, Output, Sandbox};
use crate::wait::{DEADLINE, pause, poll};

/// The time after which a run counts as one that does not end, in seconds.
const RUN_LIMIT_S: u32 = 60;

/// The exit codes of `timeout` for a run that it ended or killed.
const TIMED_OUT: [i32; 2] = [124, 137];

/// Returns the sheet of this version, which must be installed.
pub fn gather(cli: &'static dyn RealCli, version: Cli) -> Value {
    let machine = || Machine::new(cli, version);
    let mut sheet = json!({
        "provider": cli.provider(),
        "version": version.version,
        "help": help::gather(&machine()),
        "exit codes": exit_codes(&machine()),
    });
    for part in [one_turn(&machine()), fork(&machine()), failed(&machine())] {
        let Value::Object(part) = part else { continue };
        part.into_iter().for_each(|(name, fact)| sheet[name] = fact);
    }
    sheet
}

/// A machine with the CLI alone on it.
struct Machine {
    cli: &'static dyn RealCli,
    sandbox: Sandbox,
    _server: ModelServer,
    project: PathBuf,
    elsewhere: PathBuf,
    /// The files that were there before the CLI ran.
    before: Vec<PathBuf>,
}

impl Machine {
    fn new(cli: &'static dyn RealCli, version: Cli) -> Self {
        let server = ModelServer::start();
        let mut sandbox = Sandbox::new(Binaries { sessctl: "", sessd: "" });
        let [project, elsewhere] = ["project", "elsewhere"].map(|name| sandbox.dir(name));
        let ready = cli.prepare_at(version, &mut sandbox, &server, &[&project, &elsewhere]);
        assert!(ready, "{} {} cannot be installed", version.name, version.version);
        let before = files::all(&sandbox);
        Self { cli, sandbox, _server: server, project, elsewhere, before }
    }

    /// Runs the CLI to its end, or to the limit.
    fn run(&self, arguments: &[String], cwd: &Path) -> Output {
        let mut command = self.sandbox.command("timeout");
        let limit = RUN_LIMIT_S.to_string();
        command.args(["--kill-after=1", &limit, self.cli.cli().name]).args(arguments);
        self.sandbox.run(command.current_dir(cwd), DEADLINE)
    }

    /// Returns the files that have appeared, each once in its normal form.
    fn new_files(&self) -> Vec<String> {
        let is_new = |path: &&PathBuf| !self.before.contains(path);
        files::normal(&self.sandbox, files::all(&self.sandbox).iter().filter(is_new))
    }

    /// Runs one prompt in a new session; `None` if that fails.
    fn one_shot(&self, prompt: &str) -> Option<String> {
        let run = self.run(&self.cli.one_shot_arguments(None, prompt), &self.project);
        Some(self.cli.parse(&run.stdout)?.session_id)
    }
}

fn code(output: &Output) -> Value {
    match output.status {
        status if TIMED_OUT.contains(&status) => json!(format!("no end in {RUN_LIMIT_S} s")),
        status => json!(status),
    }
}

/// The exit codes of runs that fail.
fn exit_codes(machine: &Machine) -> Value {
    let run = |resumed: Option<&str>, prompt: &str| {
        let arguments = machine.cli.one_shot_arguments(resumed, prompt);
        code(&machine.run(&arguments, &machine.project))
    };
    let unknown = match machine.cli.provider() {
        "opencode" | "kilo" => "ses_0000000000000000000000000000",
        _ => "01a1fd45-0cd8-7000-8000-000000000000",
    };
    json!({
        "unknown id": run(Some(unknown), "alpha question"),
        "401": run(None, "alpha [[status 401]]"),
        "reset": run(None, "alpha [[broken reset]]"),
    })
}

/// A session of one turn: its records and size, the events of its stream, the files that it leaves,
/// those that are there while it is open, and whether it goes on in another directory.
fn one_turn(machine: &Machine) -> Value {
    let Some(id) = machine.one_shot("alpha question") else { return json!({"one turn": null}) };
    let transcript = machine.cli.transcript(&machine.sandbox, &machine.project, &id);
    let size = transcript.and_then(|path| fs::metadata(path).ok()).map(|it| it.len() / 1024);
    let mut sheet = json!({
        "one turn": records::gather(machine),
        "one turn in KiB": size,
        "files": machine.new_files(),
        "while it is open": open(machine, &id),
    });
    let elsewhere = machine.cli.one_shot_arguments(Some(&id), "beta question");
    let run = machine.run(&elsewhere, &machine.elsewhere);
    sheet["resumed elsewhere"] = match machine.cli.parse(&run.stdout) {
        Some(answer) if answer.session_id != id => json!("another session"),
        Some(answer) if answer.text.contains("turns=2") => json!("with its context"),
        Some(_) => json!("without its context"),
        None => code(&run),
    };
    let stream = machine.cli.stream_arguments("gamma question");
    let run = machine.run(&stream, &machine.project);
    sheet["stream"] = json!(records::kinds(&run.stdout));
    sheet
}

/// The files that are only there while a terminal has the session, with the keys of those that are
/// JSON objects.
fn open(machine: &Machine, id: &str) -> Value {
    let before = files::all(&machine.sandbox);
    let mut terminal = machine.cli.tui_resume(&machine.sandbox, &machine.project, id);
    let is_there = || terminal.screen().contains("turns=1").then_some(());
    if poll(DEADLINE, is_there).is_none() {
        return json!("it does not open");
    }
    // The file of a live registry may come a moment after the screen.
    pause(Duration::from_secs(3));
    let new = files::all(&machine.sandbox).into_iter().filter(|path| !before.contains(path));
    let found: Vec<_> = new.map(|path| (records::keys_of_file(&path), path)).collect();
    machine.cli.quit(&mut terminal);
    let mut sheet = Map::new();
    for (keys, path) in found {
        let state = if path.exists() { " (stays)" } else { "" };
        let name = files::normal(&machine.sandbox, [&path]).concat();
        sheet.insert(format!("{name}{state}"), json!(keys));
    }
    Value::Object(sheet)
}

/// A session and a copy of it.
fn fork(machine: &Machine) -> Value {
    let id = machine.one_shot("alpha question").unwrap_or_default();
    let Some(arguments) = machine.cli.fork_arguments(&id, "beta question") else {
        return json!({"fork": "it has no option for that"});
    };
    let run = machine.run(&arguments, &machine.project);
    match machine.cli.parse(&run.stdout) {
        Some(_) => json!({"fork": records::gather(machine)}),
        None => json!({"fork": code(&run)}),
    }
}

/// A session whose only call was refused.
fn failed(machine: &Machine) -> Value {
    let arguments = machine.cli.one_shot_arguments(None, "alpha [[status 401]]");
    machine.run(&arguments, &machine.project);
    json!({"failed turn": records::gather(machine)})
}
