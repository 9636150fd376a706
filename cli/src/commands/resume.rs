//! `sessctl resume`: gets lease and launch plan from the daemon, then replaces itself with the
//! provider.

use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use sessd_proto::client::Client;
use sessd_proto::environment::is_supervisors;
use sessd_proto::launch::{ResumeRequest, ResumeResponse};
use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::session::{ListRequest, UnreadablePart};
use sessd_proto::{Environment, Fault, FaultCode, LaunchPlan, Status, printable};
use uuid::Uuid;

use super::list::note_unreadable;
use crate::directory::real_path;
use crate::follow::warn_of_danger;
use crate::{Context, current_dir, pick};

/// Continue a session in this terminal
///
/// Without a selector it lets you pick one of this project's sessions; without a terminal it acts
/// like --last.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Session to continue
    #[arg(conflicts_with = "last")]
    selector: Option<String>,
    /// Continue the newest session of this project that can be resumed
    #[arg(long)]
    last: bool,
    /// Print the command that would be run, and run nothing. It contains the values of the agent's
    /// environment variables
    #[arg(long)]
    plan: bool,
    /// Start in this directory instead of the session's own, if the provider supports it
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Continue a copy as a new session, if the provider supports it
    #[arg(long, conflicts_with_all = ["steal", "wait"])]
    fork: bool,
    /// Take the session over: stop its running turn if none is queued, or ask the process that has
    /// it to exit. Never stops a process that sessctl did not start
    #[arg(long)]
    steal: bool,
    /// Wait until no other process has the session
    #[arg(long, conflicts_with = "plan")]
    wait: bool,
    /// Try even if it is unknown whether the session can be resumed
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  sessctl resume
  sessctl resume --last
  sessctl resume 6f1d --fork";

/// The JSON output of `resume --plan`.
#[derive(Serialize)]
struct Planned<'a> {
    #[serde(flatten)]
    plan: &'a LaunchPlan,
    incomplete: &'a [UnreadablePart],
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let here = current_dir()?;
    let at_terminal = io::stdin().is_terminal() && context.output.is_terminal();
    let selector = match args.selector {
        Some(selector) => Some(selector),
        None if args.last || !at_terminal => None,
        None => Some(pick_session(context, &mut client, &here)?),
    };
    let environment = context.declared_environment(&mut client)?;
    let request = ResumeRequest {
        selector,
        project: Some(here),
        cwd: args.cwd.map(|dir| real_path(&dir)).transpose()?,
        force: args.force,
        plan_only: args.plan,
        fork_as: args.fork.then(|| Uuid::new_v4().to_string()),
        steal: args.steal,
        wait_ms: 0,
        environment,
    };
    let response = match client.resume(request.clone()) {
        Err(fault) if fault.code == FaultCode::Busy && args.wait => {
            context.output.note(&format!("waiting: {}", fault.message));
            // Steal once only: a process that gets the session while we wait is left alone.
            wait(&mut client, &ResumeRequest { wait_ms: WAIT_MS_MAX, steal: false, ..request })?
        }
        response => response?,
    };
    note_unreadable(context, &response.unreadable);
    let plan = response.plan;
    if args.plan && context.output.is_json() {
        context.output.json(&Planned { plan: &plan, incomplete: &response.unreadable })
    } else if args.plan {
        context.output.data(&shell_line(&plan))
    } else {
        warn_of_danger(context, &response.session);
        if args.fork {
            context.output.note(&format!("session: {}", response.session.id));
        }
        Err(become_provider(&plan, &context.env))
    }
}

/// Starts a session that has just been registered. Returns only if that fails.
pub(super) fn start(
    context: &Context,
    client: &mut Client,
    id: String,
    environment: Environment,
) -> Result<(), Fault> {
    let request = ResumeRequest { selector: Some(id), environment, ..ResumeRequest::default() };
    Err(become_provider(&client.resume(request)?.plan, &context.env))
}

/// Repeats the request as long as another process has the session.
fn wait(client: &mut Client, request: &ResumeRequest) -> Result<ResumeResponse, Fault> {
    loop {
        match client.resume(request.clone()) {
            Err(fault) if fault.code == FaultCode::Busy => {}
            response => return response,
        }
    }
}

/// Lets the user pick a session of this project, or of all projects if this one has none.
fn pick_session(context: &Context, client: &mut Client, here: &str) -> Result<String, Fault> {
    let request = |project| ListRequest {
        project,
        status: Some(Status::Active),
        limit: 200,
        ..ListRequest::default()
    };
    let mut sessions = client.list(request(Some(here.to_owned())))?.sessions;
    if sessions.is_empty() {
        sessions = client.list(request(None))?.sessions;
    }
    if sessions.is_empty() {
        return Err(Fault::new(FaultCode::NotFound, "no session can be resumed")
            .hint("list all sessions with their status: `sessctl list`"));
    }
    Ok(pick::pick(&context.output, context.env.get("HOME"), sessions)?.id)
}

/// Replaces this process with the provider, which keeps the lease. Returns only if that fails.
fn become_provider(plan: &LaunchPlan, env: &Environment) -> Fault {
    let mut command = Command::new(&plan.program);
    command.args(&plan.args).current_dir(&plan.cwd);
    for name in env.0.keys().filter(|name| is_supervisors(name)) {
        command.env_remove(name);
    }
    for (name, value) in &plan.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let error = command.exec();
    let program = quoted(&plan.program);
    let what = format!("cannot start {program} in {}: {error}", quoted(&plan.cwd));
    let fault = Fault::new(FaultCode::ProviderUnavailable, what);
    if error.kind() == io::ErrorKind::NotFound && Path::new(&plan.cwd).is_dir() {
        fault.hint(format!(
            "install {program}, or set its path in the configuration, below [programs]"
        ))
    } else {
        fault.hint("print the command instead: `sessctl resume --plan`")
    }
}

/// Formats a plan as a command line for a shell.
fn shell_line(plan: &LaunchPlan) -> String {
    let mut words = vec!["cd".to_owned(), quoted(&plan.cwd), "&&".to_owned(), "env".to_owned()];
    for (name, value) in &plan.env {
        match value {
            None => words.extend(["-u".to_owned(), name.clone()]),
            Some(value) => words.push(format!("{name}={}", quoted(value))),
        }
    }
    // `env` expects its options before its assignments.
    words[4..].sort_by_key(|word| word.contains('='));
    if plan.env.is_empty() {
        words.pop();
    }
    words.push(quoted(&plan.program));
    words.extend(plan.args.iter().map(|argument| quoted(argument)));
    words.join(" ") + "\n"
}

/// Quotes a word for a shell, and escapes every character that is not safe to print.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if printable(word) != word {
        let escape = |c: char| match c {
            '\\' | '\'' => format!("\\{c}"),
            c if printable(&c.to_string()) != c.to_string() => {
                c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect()
            }
            c => c.to_string(),
        };
        format!("$'{}'", word.chars().map(escape).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_are_printable_and_equal_to_a_shell() {
        let word = "a\u{1b}[2J1\n\u{9b}'\\é";
        let line = quoted(word);
        assert_eq!(line, "$'a\\033[2J1\\012\\302\\233\\'\\\\é'");
        let output = Command::new("bash").args(["-c", &format!("printf %s {line}")]).output();
        assert_eq!(output.unwrap().stdout, word.as_bytes());
    }

    #[test]
    fn a_plan_can_be_pasted_into_a_shell() {
        let mut plan = LaunchPlan {
            program: "claude".to_owned(),
            args: vec!["--resume=1".to_owned(), "it's".to_owned()],
            cwd: "/my work".to_owned(),
            ..LaunchPlan::default()
        };
        assert_eq!(shell_line(&plan), "cd '/my work' && claude --resume=1 'it'\\''s'\n");
        plan.env.insert("A".to_owned(), Some("x y".to_owned()));
        plan.env.insert("B".to_owned(), None);
        assert_eq!(
            shell_line(&plan),
            "cd '/my work' && env -u B A='x y' claude --resume=1 'it'\\''s'\n"
        );
    }
}
