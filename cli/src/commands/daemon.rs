//! `sessctl daemon`.

use clap::Subcommand;
use sessd_proto::Fault;

use crate::{Context, connect};

/// Start, stop or restart the daemon (it also starts by itself on first use)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, if it does not run
    Start,
    /// End it after the requests in flight; running turns are interrupted
    Stop,
    /// Stop it, if it runs, and start it
    Restart,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<(), Fault> {
    match args.action {
        Action::Start => start(context),
        Action::Stop => {
            let stopped = connect::stop(&context.paths()?)?;
            report(context, stopped, if stopped.is_some() { "stopped" } else { "did not run" })
        }
        Action::Restart => {
            connect::stop(&context.paths()?)?;
            start(context)
        }
    }
}

fn start(context: &Context) -> Result<(), Fault> {
    let pid = context.connect()?.daemon_pid();
    report(context, Some(pid), "running")
}

fn report(context: &Context, pid: Option<u32>, state: &str) -> Result<(), Fault> {
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "pid": pid, "state": state }));
    }
    let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    context.output.data(&format!("daemon {state}{process}\n"))
}
