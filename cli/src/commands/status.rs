//! `sessctl status`.

use sessd_proto::Fault;
use sessd_proto::status::StatusRequest;

use crate::Context;
use crate::systemd::runs;

/// Show the daemon's status: process, version, counters, problems
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: &Args) -> Result<(), Fault> {
    let status = context.connect()?.status(StatusRequest {})?;
    if context.output.is_json() {
        return context.output.json(&status);
    }
    let memory = format!("{:.1} MB", status.memory_bytes as f64 / 1e6);
    context.output.pairs(&[
        ("process", status.pid.to_string()),
        ("run by", if runs(status.pid) { "systemd" } else { "itself" }.to_owned()),
        ("version", format!("{} (protocol {})", status.version, status.protocol)),
        ("started", context.output.moment(Some(status.started_at))),
        ("sessions", status.sessions.to_string()),
        ("turns pending", format!("{} ({} running)", status.turns_pending, status.turns_running)),
        ("leases", status.leases.to_string()),
        ("memory", memory),
        ("socket", status.socket),
        ("registry", status.database),
        ("configuration", status.config),
        (
            "problems",
            if status.problems.is_empty() { "none".to_owned() } else { status.problems.join("; ") },
        ),
    ])
}
