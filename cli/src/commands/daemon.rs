//! `sessctl daemon`.

use clap::Subcommand;
use sessd_proto::Fault;
use sessd_proto::client::Client;
use sessd_proto::paths::Paths;
use sessd_proto::status::StatusRequest;

use crate::output::count;
use crate::systemd::{self, Manager};
use crate::{Context, connect};

mod install;
mod logs;
mod units;

/// Control the daemon, which starts by itself on first use
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the daemon if it is not running
    Start,
    /// Stop the daemon; running turns are interrupted
    ///
    /// Requests in flight are answered first. Queued turns are run by the next daemon, unless
    /// they need environment variables that were sent with them: those are never written down.
    Stop,
    /// Restart the daemon; running turns are interrupted
    Restart,
    Install(install::Args),
    /// Remove the systemd units; registry and drop-ins are kept
    Uninstall,
    Logs(logs::Args),
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<(), Fault> {
    match &args.action {
        Action::Start => start(context),
        Action::Stop => stop(context),
        Action::Restart => restart(context),
        Action::Install(args) => install::run(context, args),
        Action::Uninstall => install::uninstall(context),
        Action::Logs(args) => logs::run(context, args),
    }
}

fn start(context: &Context) -> Result<(), Fault> {
    let paths = context.paths()?;
    let client = connect::connect_and_greet(&paths, &context.env)?;
    // Ask the lock first: the other end of the socket may be the service manager.
    let pid = connect::process(&paths).unwrap_or_else(|| client.daemon_pid());
    report(context, Some(pid), "running")
}

fn stop(context: &Context) -> Result<(), Fault> {
    let paths = context.paths()?;
    let is_unit = connect::process(&paths).is_some_and(systemd::runs);
    let turns = turns(&paths);
    let stopped = connect::stop(&paths, &context.env)?;
    report(context, stopped, if stopped.is_some() { "stopped" } else { "did not run" })?;
    note_turns(context, turns);
    if is_unit {
        context.output.note("systemd keeps listening: the next call starts it again");
    }
    Ok(())
}

fn restart(context: &Context) -> Result<(), Fault> {
    let paths = context.paths()?;
    let is_unit = connect::process(&paths).is_some_and(systemd::runs);
    let turns = turns(&paths);
    match Manager::find(&context.env).filter(|_| is_unit) {
        Some(manager) => manager.call(&["restart", systemd::SERVICE])?,
        None => connect::stop(&paths, &context.env).map(drop)?,
    }
    note_turns(context, turns);
    start(context)
}

/// Returns how many turns the daemon is running and how many are queued; zeros if it is silent.
fn turns(paths: &Paths) -> (i64, i64) {
    let asked = connect::process(paths).and_then(|_| Client::connect(&paths.socket).ok());
    let status = asked.and_then(|mut client| client.status(StatusRequest {}).ok());
    status.map_or((0, 0), |it| (it.turns_running, it.turns_pending - it.turns_running))
}

fn note_turns(context: &Context, (running, waiting): (i64, i64)) {
    if running > 0 {
        let turns = count(running, "running turn");
        context.output.note(&format!("interrupted {turns}: `sessctl turns --state interrupted`"));
    }
    if waiting > 0 {
        let turns = count(waiting, "queued turn");
        context.output.note(&format!("the next daemon will run {turns}"));
    }
}

fn report(context: &Context, pid: Option<u32>, state: &str) -> Result<(), Fault> {
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "pid": pid, "state": state }));
    }
    let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    context.output.data(&format!("daemon {state}{process}\n"))
}
