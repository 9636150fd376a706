//! `sessctl daemon logs`: from the journal if systemd runs the daemon, else from its log files.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use sessd_proto::paths::Paths;
use sessd_proto::{Fault, FaultCode};

use crate::systemd::{self, Manager, SERVICE};
use crate::{Context, connect};

/// Show the log of the daemon
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of lines to show, counted from the end
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    lines: usize,
    /// Keep printing new lines until interrupted
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<(), Fault> {
    if args.follow && context.output.is_json() {
        return Err(Fault::new(FaultCode::Usage, "`--follow` cannot be combined with `--json`")
            .hint("`sessctl daemon logs --follow`, or `sessctl daemon logs --json`"));
    }
    let paths = context.paths()?;
    let count = args.lines.to_string();
    let command = match journal(context, &paths) {
        Some(manager) => {
            let mut command = manager.command("journalctl");
            command.args(["--user", "--quiet", "--no-pager", "--output=short-iso"]);
            command.args(["--unit", SERVICE, "--lines", &count]);
            command
        }
        None if args.follow => {
            let mut command = Command::new("tail");
            command.args(["--lines", &count]).arg(paths.log());
            command
        }
        None => return print(context, &newest(&paths.log(), args.lines)?),
    };
    show(context, command, args.follow)
}

/// Returns the manager that collects the log, if the daemon runs, or would run, as its unit.
fn journal(context: &Context, paths: &Paths) -> Option<Manager> {
    match connect::process(paths) {
        Some(pid) => Manager::find(&context.env).filter(|_| systemd::runs(pid)),
        None => Manager::in_charge(paths, &context.env),
    }
}

fn show(context: &Context, mut command: Command, follow: bool) -> Result<(), Fault> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        Fault::new(FaultCode::Environment, format!("cannot run {name}: {error}"))
    };
    if follow {
        // By name, because a full log file is replaced by a new one.
        command.arg(if name == "tail" { "--follow=name" } else { "--follow" });
        return Err(failed(command.exec()));
    }
    let output = command.output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(failed(io::Error::other(String::from_utf8_lossy(&output.stderr).trim())));
    }
    print(context, &text.lines().map(str::to_owned).collect::<Vec<_>>())
}

fn print(context: &Context, lines: &[String]) -> Result<(), Fault> {
    if context.output.is_json() {
        return context.output.json(&serde_json::json!({ "lines": lines }));
    }
    context.output.data(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Returns the last lines of the log, from the current file and as many older ones as needed.
fn newest(log: &Path, count: usize) -> Result<Vec<String>, Fault> {
    let older = (1..).map(|age| log.with_extension(format!("log.{age}")));
    let mut lines = VecDeque::new();
    for path in [log.to_owned()].into_iter().chain(older) {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        for line in String::from_utf8_lossy(&text).lines().rev().take(count - lines.len()) {
            lines.push_front(line.to_owned());
        }
    }
    Ok(lines.into())
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(FaultCode::Environment, format!("cannot read {}: {error}", path.display()))
}
