//! sessctl: the thin client of sessd. Parse, connect, run, print; knows nothing of its own.
//!
//! [`connect`] finds or starts the daemon, `commands` has one file for each verb, and
//! [`output`] is the only place that prints.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use sessd_proto::launch::EnvironmentRequest;
use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault, FaultCode};

mod commands;
pub mod connect;
mod duration;
mod follow;
mod lazy;
pub mod output;
mod pick;
mod systemd;

use output::Output;

/// List, check and resume the coding-agent sessions of this machine
///
/// Sessions of every provider are found by themselves; `sessctl list` shows them,
/// `sessctl resume` continues one. The daemon behind it starts on first use.
#[derive(Debug, Parser)]
#[command(name = "sessctl", version, max_term_width = 80, after_help = AFTER_HELP)]
struct Args {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// The daemon's socket [default: $SESSD_SOCKET, else in $XDG_RUNTIME_DIR]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: commands::Command,
}

const AFTER_HELP: &str = "\
A SELECTOR is @KEY, an id, a provider's own id, or a unique beginning
(4 characters or more) of one.

Exit codes: 0 ok, 1 fault, 2 usage, 3 not found or ambiguous, 4 busy,
5 not resumable, 6 provider unavailable, failed or unknown, 7 deadline,
8 daemon unreachable, 9 protocol mismatch, 70 internal.";

/// What every command gets: the environment as values, and where to print.
pub struct Context {
    env: Environment,
    socket: Option<PathBuf>,
    output: Output,
}

impl Context {
    fn paths(&self) -> Result<Paths, Fault> {
        Paths::find(self.socket.as_deref(), &self.env)
    }

    /// A connection to the daemon, which is started if need be.
    fn connect(&self) -> Result<sessd_proto::client::Client, Fault> {
        let (paths, env) = (self.paths()?, self.env.clone());
        let client = connect::connect(&paths, &env)?;
        Ok(client.recovering(move |error| connect::recover(error, &paths, &env)))
    }

    /// The caller's variables, as far as providers declared an interest in them.
    fn declared(&self, client: &mut sessd_proto::client::Client) -> Result<Environment, Fault> {
        let names = client.environment(EnvironmentRequest {})?;
        Ok(self.env.only(names.iter().map(AsRef::as_ref)))
    }
}

/// Runs the client.
#[must_use]
pub fn main() -> ExitCode {
    let Args { json, socket, command } = match parse(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let mut context = Context { env: Environment::of_process(), socket, output: Output::new(json) };
    match command.run(&mut context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => failed(&context.output, &fault),
    }
}

/// Only the verb that is called describes its arguments, unless somebody must read about all.
fn parse(words: Vec<OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(&words).or_else(|_| {
        let mut whole = Args::command();
        whole.build();
        Args::from_arg_matches(&whole.try_get_matches_from(words)?)
    })
}

fn failed(output: &Output, fault: &Fault) -> ExitCode {
    output.fault(fault);
    ExitCode::from(fault.code.exit_code())
}

/// Arguments that make no sense are a fault like any other, in JSON too; help is help.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    failed(&Output::new(json), &usage(&error.render().to_string()))
}

/// The fault in clap's words: its first paragraph, then its tip or how the command is used.
fn usage(words: &str) -> Fault {
    let mut paragraphs = words.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let hint = paragraphs.find(|text| text.starts_with("tip: ") || text.starts_with("Usage: "));
    let hint = hint.map_or("sessctl --help", |text| text.split_once(": ").unwrap_or_default().1);
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Fault::new(FaultCode::Usage, what).hint(hint)
}

/// The directory the client was called in, as the caller sees it.
fn current_dir() -> Result<String, Fault> {
    let dir = std::env::current_dir().map_err(|error| {
        Fault::new(FaultCode::Environment, format!("the current directory cannot be told: {error}"))
            .hint("go to a directory that exists: `cd`")
    })?;
    Ok(dir.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_becomes_a_fault() {
        let refused = |words: &[&str]| {
            let error = parse(words.iter().map(Into::into).collect()).unwrap_err();
            let fault = usage(&error.render().to_string());
            (fault.message, fault.hint.unwrap())
        };
        let (what, hint) = refused(&["sessctl", "show"]);
        assert!(what.ends_with("not provided: <SELECTOR>"), "{what}");
        assert_eq!(hint, "sessctl show <SELECTOR>");
        let (what, hint) = refused(&["sessctl", "show", "-rf"]);
        assert_eq!(what, "unexpected argument '-r' found");
        assert_eq!(hint, "to pass '-r' as a value, use '-- -r'");
    }
}
