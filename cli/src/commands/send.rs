//! `sessctl send`: one prompt, and the answer on standard output while it arrives.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use serde_json::json;
use sessd_proto::client::Client;
use sessd_proto::session::ShowRequest;
use sessd_proto::turn::{
    CancelRequest, Fallback, PROMPT_BYTES_MAX, SendRequest, SendResponse, TURN_VARIABLE, TurnState,
    TurnsRequest,
};
use sessd_proto::{Fault, FaultCode, Session};
use uuid::Uuid;

use crate::follow::{How, follow};
use crate::{Context, current_dir, duration};

/// Send one prompt to a session, or to a new one
///
/// The answer goes to standard output, the session's id to standard error. With --new or --last
/// the one argument is the prompt; `-`, or nothing with a pipe on standard input, reads it
/// from there. If this command is interrupted, the turn goes on: `sessctl turns follow ID` prints
/// what comes of it, `sessctl turns cancel ID` ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start a new session with this agent
    #[arg(long, value_name = "AGENT", conflicts_with = "last", group = "begins")]
    new: Option<String>,
    /// With a key: start a session of this agent if the key has none yet
    #[arg(long, value_name = "AGENT", conflicts_with = "last", group = "begins")]
    agent: Option<String>,
    /// Continue the newest session of this project that can be resumed
    #[arg(long)]
    last: bool,
    /// Start a new session in this directory [default: the agent's own, else the
    /// current one]
    #[arg(long, value_name = "DIR", requires = "begins")]
    cwd: Option<String>,
    /// When the session is gone: fail, or begin a new one under the same id
    #[arg(long, value_name = "fail|new", default_value = "fail", value_parser = fallback)]
    fallback: Fallback,
    /// Put the session into the trash this long after its last activity, e.g. 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<i64>,
    /// Put a text file after the prompt, as `<file name="F">`, its content and `</file>`, each on
    /// a line of its own; may be repeated
    #[arg(long, value_name = "F")]
    file: Vec<PathBuf>,
    /// End the turn if the provider takes longer, e.g. 90s, 30m, at most 1h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<i64>,
    /// The id of the turn: the same command with the same id runs nothing twice, and prints the
    /// same answer [default: a new one]
    #[arg(long, value_name = "UUID")]
    turn: Option<String>,
    /// Print the id of the turn and leave; the turn goes on
    #[arg(long, conflicts_with = "stream_json")]
    detach: bool,
    #[command(flatten)]
    how: How,
    /// Wait for whoever else has the session; prompts of ours always wait for one another
    #[arg(long)]
    wait: bool,
    /// Send it to a copy of the session, which becomes one of its own, where the provider can
    #[arg(long, conflicts_with_all = ["begins", "wait", "steal"])]
    fork: bool,
    /// End the turn that runs in the session, or ask the process that has it to end; never one
    /// that sessctl did not start
    #[arg(long)]
    steal: bool,
    /// [SELECTOR] [PROMPT]
    #[arg(value_names = ["SELECTOR", "PROMPT"], num_args = 0..=2)]
    words: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut words = args.words.into_iter();
    let selector = if args.new.is_some() || args.last { None } else { words.next() };
    if selector.is_none() && args.new.is_none() && !args.last {
        return Err(Fault::new(
            FaultCode::Usage,
            "neither a session nor --new nor --last was named",
        )
        .hint("`sessctl send --new echo \"hello\"`, `sessctl send @me --agent echo \"hello\"`"));
    }
    let prompt = with_files(prompt(words.next(), !args.file.is_empty())?, &args.file)?;
    if words.next().is_some() {
        return Err(Fault::new(FaultCode::Usage, "more than one prompt").hint("quote the prompt"));
    }
    args.how.apply(&mut context.output);
    let mut client = context.connect()?;
    // Who neither waits for a turn nor ends one may send from everywhere.
    let from_everywhere = args.fork || args.detach && !args.steal;
    let own = if from_everywhere { None } else { own_session(context, &mut client) };
    if let Some(own) = &own {
        must_not_end_itself(&mut client, own, selector.as_deref(), args.last && args.steal)?;
    }
    let environment = context.declared(&mut client)?;
    let cwd_given = args.cwd.is_some();
    let cwd = match args.cwd {
        Some(dir) => super::resume::existing(&dir)?,
        None => current_dir()?,
    };
    let turn_id = args.turn.unwrap_or_else(|| Uuid::new_v4().to_string());
    let request = SendRequest {
        turn_id: turn_id.clone(),
        selector,
        new_agent: args.new.or(args.agent),
        cwd,
        cwd_given,
        prompt,
        ttl_ms: args.ttl,
        fallback: args.fallback,
        timeout_ms: args.timeout.map(i64::unsigned_abs),
        raw: args.how.raw,
        fork: args.fork,
        wait: args.wait,
        steal: args.steal,
        environment,
    };
    let accepted = client.send(request).map_err(|fault| unanswered(fault, &turn_id))?;
    if own.is_some_and(|own| own == accepted.session.id) {
        client.cancel(CancelRequest { turn_id })?;
        return Err(waits_for_itself(&accepted.session));
    }
    if !context.output.is_json() {
        context.output.note(&format!("session: {}", accepted.session.id));
    }
    let SendResponse { session, turn } = accepted;
    if args.detach && context.output.is_json() {
        return context.output.json(&json!({ "session": session, "turn": turn }));
    } else if args.detach {
        return context.output.data(&format!("{}\n", turn.id));
    }
    context.output.aside(&format!("turn: {} (goes on after Ctrl-C: `sessctl turns`)", turn.id));
    follow(context, &mut client, turn.id, 0, args.how)
}

/// What was not answered in time may have been accepted.
fn unanswered(fault: Fault, turn_id: &str) -> Fault {
    if fault.code != FaultCode::Deadline {
        return fault;
    }
    let more = format!("it may go on all the same: `sessctl turns show {turn_id}`");
    let hint = fault.hint.iter().map(String::as_str).chain([&*more]).collect::<Vec<_>>().join("; ");
    fault.hint(hint)
}

/// The session in whose turn this very command was started.
fn own_session(context: &Context, client: &mut Client) -> Option<String> {
    let turn_id = Some(context.env.get(TURN_VARIABLE)?.to_owned());
    let found = client.turns(TurnsRequest { turn_id, ..TurnsRequest::default() }).ok()?;
    let running = found.turns.into_iter().find(|turn| turn.state == TurnState::Running)?;
    Some(running.session_id)
}

/// Refuses before anything is done what can be known before. `--last` may mean any session.
fn must_not_end_itself(
    client: &mut Client,
    own: &str,
    selector: Option<&str>,
    steals_any: bool,
) -> Result<(), Fault> {
    if steals_any {
        let what = "--steal with --last may end the very turn that this command is called from";
        return Err(Fault::new(FaultCode::Usage, what).hint("name the session"));
    }
    let Some(selector) = selector.map(str::to_owned) else { return Ok(()) };
    // A key may have none yet; whatever else is wrong is found by the prompt itself.
    match client.show(ShowRequest { selector }) {
        Ok(session) if session.id == own => Err(waits_for_itself(&session)),
        _ => Ok(()),
    }
}

/// The answer would wait for the end of the turn, and the turn for the answer; or the turn would
/// be ended, and this command with it, before the prompt is accepted.
fn waits_for_itself(session: &Session) -> Fault {
    let what = format!(
        "this prompt comes from a turn of the session {} itself, and would wait for its end or \
         be lost with it",
        session.short_id()
    );
    Fault::new(FaultCode::Busy, what)
        .hint("let it run afterwards: `--detach` without --steal; or in a copy: `--fork`")
}

/// The prompt with the files after it, each in an element of its own.
fn with_files(mut prompt: String, files: &[PathBuf]) -> Result<String, Fault> {
    for file in files {
        let text = fs::read_to_string(file).map_err(|error| {
            let what = format!("--file: {}: {error}", file.display());
            Fault::new(FaultCode::Usage, what)
                .hint("only text can be sent; the agent can read other files by itself: name them")
        })?;
        let name: String = file.to_string_lossy().replace(['"', '\n'], "_");
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        prompt += &format!("\n\n<file name=\"{name}\">\n{text}{end}</file>");
    }
    if prompt.len() > PROMPT_BYTES_MAX {
        let what =
            format!("the prompt has {} bytes, {PROMPT_BYTES_MAX} are possible", prompt.len());
        return Err(Fault::new(FaultCode::Usage, what)
            .hint("name the files in the prompt instead: the agent can read them by itself"));
    }
    Ok(prompt.trim_start_matches('\n').to_owned())
}

fn fallback(text: &str) -> Result<Fallback, String> {
    Fallback::parse(text).ok_or_else(|| super::list::one_of(Fallback::ALL))
}

fn prompt(word: Option<String>, has_files: bool) -> Result<String, Fault> {
    let from_stdin = match &word {
        Some(word) => word == "-",
        None => !io::stdin().is_terminal(),
    };
    if !from_stdin {
        return word.or(has_files.then(String::new)).ok_or_else(|| {
            Fault::new(FaultCode::Usage, "there is no prompt")
                .hint("give it as the last argument, or pipe it in")
        });
    }
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt).map_err(|error| {
        Fault::new(FaultCode::Usage, format!("cannot read the prompt from standard input: {error}"))
    })?;
    Ok(prompt)
}
