//! sessd: one durable registry of every coding-agent session on the machine.
//!
//! Reading order: [`daemon`] (one run), [`config`], [`store`] (the registry's file),
//! [`providers`], [`registry`] (what sessd can do), [`jobs`], [`listener`] (the socket).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault};

use environment::DaemonEnvironment;
use supervisor::Supervisor;

mod background;
pub mod clock;
pub mod config;
mod copies;
pub mod daemon;
pub mod environment;
mod failpoint;
pub mod jobs;
mod launch_files;
mod limits;
pub mod listener;
mod log;
mod mcp_client;
pub mod process;
pub mod providers;
mod redact;
pub mod registry;
pub mod runner;
mod sqlite_worker;
pub mod store;
pub mod supervisor;
pub mod system;

/// Keeps one durable registry of every coding-agent session on this machine
///
/// Usually started by `sessctl` on first use. Its client is `sessctl`.
#[derive(Debug, Parser)]
#[command(name = "sessd", version, max_term_width = 80)]
struct Args {
    /// The socket to listen on [default: $SESSD_SOCKET, else in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Run in the background; the exit status tells whether it serves
    #[arg(long, conflicts_with = "foreground")]
    daemonize: bool,
    /// Stay in the foreground and log to standard error (the default)
    // Never read. For unit files that say `sessd --foreground`; conflicts with --daemonize.
    #[arg(long)]
    foreground: bool,
    /// Print every option of the configuration with its default
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    agent: Option<Agent>,
}

#[derive(Debug, Subcommand)]
enum Agent {
    /// The built-in agent, started by sessd itself
    #[command(hide = true)]
    Echo {
        /// Folder of its transcripts
        #[arg(long)]
        home: PathBuf,
        /// Id of its session
        #[arg(long)]
        session: String,
        /// Read one prompt from standard input, answer it and exit
        #[arg(long)]
        once: bool,
    },
}

/// Runs `sessd` with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.agent {
        Some(Agent::Echo { home, session, once }) => {
            providers::echo::converse(home, session, *once).map_err(Fault::internal)
        }
        None if args.print_config => {
            io::stdout().write_all(config::defaults_text().as_bytes()).map_err(Fault::internal)
        }
        None => start(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            background::report(&fault);
            ExitCode::from(fault.code.exit_code())
        }
    }
}

fn start(args: &Args) -> Result<(), Fault> {
    let env = Environment::of_process();
    let mut paths = Paths::find(args.socket.as_deref(), &env)?;
    limits::set();
    system::share_memory();
    if args.daemonize {
        return background::run(paths, env);
    }
    log::to_stderr(supervisor::has_journal(&env));
    let supervisor = Supervisor::of_process(&env)?;
    paths.socket = supervisor.socket_path().unwrap_or(paths.socket);
    daemon::run(paths, DaemonEnvironment::intended(env), supervisor, || ())
}
