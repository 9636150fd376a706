//! sessctl: the thin client of sessd. Parses, connects, runs and prints; keeps no state.
//!
//! [`connect`] finds or starts the daemon, `commands` has one file for each command, and
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
mod directory;
mod duration;
mod follow;
mod lazy;
pub mod output;
mod pick;
mod systemd;

use output::Output;

/// List, check and resume the coding-agent sessions on this machine
///
/// Sessions of all providers are discovered automatically; `sessctl list` shows them and
/// `sessctl resume` continues one. The daemon starts by itself on first use.
#[derive(Debug, Parser)]
#[command(name = "sessctl", version, max_term_width = 80, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true)]
struct Args {
    /// Print JSON instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Socket of the daemon [default: $SESSD_SOCKET, else in $XDG_RUNTIME_DIR]
    #[arg(long, global = true, display_order = 900, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: commands::Command,
}

const AFTER_HELP: &str = "\
A SELECTOR is a key (@NAME), an id, a provider's own id, or a unique prefix of
an id (at least 4 characters).

Exit codes: 0 ok, 1 fault, 2 usage, 3 not found or ambiguous, 4 busy,
5 not resumable, 6 provider unavailable, failed or unknown, 7 deadline,
8 daemon unreachable, 9 protocol mismatch, 70 internal.

Words in the output: `sessctl help events`, `reasons`, `faults`, `states`.";

/// Shared by all commands: the environment, the socket and the output.
pub struct Context {
    env: Environment,
    socket: Option<PathBuf>,
    output: Output,
}

impl Context {
    fn paths(&self) -> Result<Paths, Fault> {
        Paths::find(self.socket.as_deref(), &self.env)
    }

    /// Connects to the daemon, starting it if necessary.
    fn connect(&self) -> Result<sessd_proto::client::Client, Fault> {
        let (paths, env) = (self.paths()?, self.env.clone());
        let client = connect::connect(&paths, &env)?;
        Ok(client.recovering(move |error| connect::recover(error, &paths, &env)))
    }

    /// Returns the caller's environment variables that providers have declared.
    fn declared_environment(
        &self,
        client: &mut sessd_proto::client::Client,
    ) -> Result<Environment, Fault> {
        let names = client.environment(EnvironmentRequest {})?;
        Ok(self.env.only(names.iter().map(AsRef::as_ref)))
    }
}

/// Runs the client and returns its exit code.
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

/// Parses the command line. Only the called command describes its arguments; help and errors of
/// use need those of all.
fn parse(words: Vec<OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(&words).or_else(|error| {
        if error.kind() == ErrorKind::DisplayVersion {
            return Err(error);
        }
        let mut whole = Args::command();
        whole.build();
        Args::from_arg_matches(&whole.try_get_matches_from(words)?)
    })
}

fn failed(output: &Output, fault: &Fault) -> ExitCode {
    output.fault(fault);
    ExitCode::from(fault.code.exit_code())
}

/// Prints help, or reports invalid arguments as a fault, in JSON too.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    failed(&Output::new(json), &usage(&error.render().to_string()))
}

/// Makes a fault of clap's message: the first paragraph, and as hint its tip or usage line.
fn usage(words: &str) -> Fault {
    let mut paragraphs = words.split("\n\n").map(str::trim);
    let what = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let hint = paragraphs.find(|text| text.starts_with("tip: ") || text.starts_with("Usage: "));
    let hint =
        hint.map_or("see `sessctl --help`", |text| text.split_once(": ").unwrap_or_default().1);
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Fault::new(FaultCode::Usage, what).hint(hint)
}

/// Returns the current directory.
fn current_dir() -> Result<String, Fault> {
    let dir = std::env::current_dir().map_err(|error| {
        Fault::new(
            FaultCode::Environment,
            format!("cannot determine the current directory: {error}"),
        )
        .hint("change to a directory that exists: `cd`")
    })?;
    Ok(dir.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_arguments_become_a_fault() {
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
