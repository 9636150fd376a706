//! `sessctl send`: sends one prompt and prints the answer as it arrives.

use std::fs::File;
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

use crate::directory::real_path;
use crate::follow::{How, follow};
use crate::{Context, current_dir, duration};

/// Send one prompt to a session or a new one, and print the answer
///
/// The answer goes to standard output, the session's id to standard error. With --new or --last
/// the only argument is the prompt. Without a prompt, or with `-`, it is read from standard
/// input. The turn goes on if this command is interrupted: `sessctl turns follow ID` prints its
/// output, `sessctl turns cancel ID` stops it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Start a new session with this agent
    #[arg(long, value_name = "AGENT", conflicts_with = "last", group = "starts")]
    new: Option<String>,
    /// With a key: start a session of this agent if the key has none
    #[arg(long, value_name = "AGENT", conflicts_with = "last", group = "starts")]
    agent: Option<String>,
    /// Continue the newest session of this project that can be resumed
    #[arg(long)]
    last: bool,
    /// Directory to start a new session in [default: the agent's own, else the
    /// current one]
    #[arg(long, value_name = "DIR", requires = "starts")]
    cwd: Option<String>,
    /// If the session is gone: fail, or start over under the same id
    #[arg(long, value_name = "fail|new", default_value = "fail", value_parser = fallback)]
    fallback: Fallback,
    /// Move the session to the trash this long after its last activity, e.g. 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<i64>,
    /// Append a text file to the prompt, between the lines `<file name="F">` and `</file>`; may be
    /// repeated
    #[arg(long, value_name = "F")]
    file: Vec<PathBuf>,
    /// Stop the turn if the provider takes longer, e.g. 90s, 30m; at most 1h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<i64>,
    /// Id of the turn: repeating a command with the same id prints the same answer and runs
    /// nothing twice [default: a new one]
    #[arg(long, value_name = "UUID")]
    turn: Option<String>,
    /// Print the id of the turn and exit; the turn goes on
    #[arg(long, conflicts_with = "stream_json")]
    detach: bool,
    #[command(flatten)]
    how: How,
    /// Wait until no other process has the session; prompts always wait for earlier prompts
    #[arg(long)]
    wait: bool,
    /// Send the prompt to a copy as a new session, if the provider supports it
    #[arg(long, conflicts_with_all = ["starts", "wait", "steal"])]
    fork: bool,
    /// Take the session over: stop its running turn, or ask the process that has it to exit. Never
    /// stops a process that sessctl did not start
    #[arg(long)]
    steal: bool,
    /// Session and prompt, two arguments; with --new or --last only the prompt
    #[arg(value_names = ["SELECTOR", "PROMPT"], num_args = 0..=2)]
    words: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  sessctl send --new claude \"summarise README.md\"
  sessctl send --last \"and now shorter\"
  git diff | sessctl send 6f1d
  sessctl send @discord:42 --agent claude \"hello\"";

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut words = args.words.into_iter();
    let selector = if args.new.is_some() || args.last { None } else { words.next() };
    if selector.is_none() && args.new.is_none() && !args.last {
        return Err(Fault::new(
            FaultCode::Usage,
            "no session given: pass a SELECTOR, --new AGENT or --last",
        )
        .hint("`sessctl send --new echo \"hello\"`, `sessctl send @me --agent echo \"hello\"`"));
    }
    let prompt = with_files(prompt(words.next(), !args.file.is_empty())?, &args.file)?;
    if words.next().is_some() {
        return Err(Fault::new(FaultCode::Usage, "more than one prompt given")
            .hint("quote it: `sessctl send --last \"two words\"`"));
    }
    args.how.apply(&mut context.output);
    let mut client = context.connect()?;
    // A call that neither waits for a turn nor stops one cannot block itself.
    let from_everywhere = args.fork || args.detach && !args.steal;
    let own = if from_everywhere { None } else { own_session(context, &mut client)? };
    if let Some(own) = &own {
        must_not_end_itself(&mut client, own, selector.as_deref(), args.last && args.steal)?;
    }
    let environment = context.declared_environment(&mut client)?;
    let cwd_given = args.cwd.is_some();
    let cwd = match args.cwd {
        Some(dir) => real_path(&dir)?,
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
    let accepted = client.send(request).map_err(|fault| explain_timeout(fault, &turn_id))?;
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

/// Adds to a timeout that the prompt may have been accepted all the same.
fn explain_timeout(fault: Fault, turn_id: &str) -> Fault {
    if fault.code != FaultCode::Deadline {
        return fault;
    }
    let more = format!("the turn may still be running: `sessctl turns show {turn_id}`");
    let hint = fault.hint.iter().map(String::as_str).chain([&*more]).collect::<Vec<_>>().join("; ");
    fault.hint(hint)
}

/// Returns the session whose turn has started this command, if any.
fn own_session(context: &Context, client: &mut Client) -> Result<Option<String>, Fault> {
    let Some(turn_id) = context.env.get(TURN_VARIABLE) else { return Ok(None) };
    let turn_id = Some(turn_id.to_owned());
    let found = match client.turns(TurnsRequest { turn_id, ..TurnsRequest::default() }) {
        // The turn of another registry, or one that was forgotten.
        Err(fault) if fault.code == FaultCode::NotFound => return Ok(None),
        found => found?,
    };
    let running = found.turns.into_iter().find(|turn| turn.state == TurnState::Running);
    Ok(running.map(|turn| turn.session_id))
}

/// Refuses up front a prompt that would deadlock on, or kill, the turn it is sent from.
fn must_not_end_itself(
    client: &mut Client,
    own: &str,
    selector: Option<&str>,
    steals_any: bool,
) -> Result<(), Fault> {
    if steals_any {
        let what = "--steal with --last may stop the turn that has started this command";
        return Err(Fault::new(FaultCode::Usage, what)
            .hint("name the session: `sessctl send --steal SELECTOR PROMPT`"));
    }
    let Some(selector) = selector.map(str::to_owned) else { return Ok(()) };
    // A key may have no session yet; other errors are reported by `send` itself.
    match client.show(ShowRequest { selector }) {
        Ok(session) if session.id == own => Err(waits_for_itself(&session)),
        _ => Ok(()),
    }
}

/// The turn would wait for this command and this command for the turn; or the turn would be
/// stopped, and this command with it, before the prompt is accepted.
fn waits_for_itself(session: &Session) -> Fault {
    let id = session.short_id();
    let what = format!(
        "this command runs in a turn of session {id} itself: the prompt would wait for ever, or \
         be lost with that turn"
    );
    Fault::new(FaultCode::Busy, what).hint(format!(
        "to run after this turn: `sessctl send --detach {id} PROMPT`; in a copy: \
         `sessctl send --fork {id} PROMPT`"
    ))
}

/// Appends the files to the prompt, each in an element of its own.
fn with_files(mut prompt: String, files: &[PathBuf]) -> Result<String, Fault> {
    for file in files {
        let text = File::open(file).and_then(read_prompt).map_err(|error| {
            let what = format!("--file: {}: {error}", file.display());
            Fault::new(FaultCode::Usage, what)
                .hint("only text files can be sent; name other files in the prompt instead")
        })?;
        must_fit(&text)?;
        let name: String = file.to_string_lossy().replace(['"', '\n'], "_");
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        prompt += &format!("\n\n<file name=\"{name}\">\n{text}{end}</file>");
    }
    must_fit(&prompt)?;
    Ok(prompt.trim_start_matches('\n').to_owned())
}

/// Reads no more than it takes to see that a prompt is too long: a pipe may be endless.
fn read_prompt(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(PROMPT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // It is too long whatever follows, and only cut within a character.
        Err(error) if error.as_bytes().len() > PROMPT_BYTES_MAX => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())),
    }
}

fn must_fit(prompt: &str) -> Result<(), Fault> {
    if prompt.len() <= PROMPT_BYTES_MAX {
        return Ok(());
    }
    let what = format!("the prompt has more than {PROMPT_BYTES_MAX} bytes");
    Err(Fault::new(FaultCode::Usage, what)
        .hint("name files in the prompt instead: the agent can read them itself"))
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
            Fault::new(FaultCode::Usage, "no prompt given")
                .hint("pass it as the last argument, or through a pipe")
        });
    }
    let prompt = read_prompt(io::stdin()).map_err(|error| {
        Fault::new(FaultCode::Usage, format!("cannot read the prompt from standard input: {error}"))
    })?;
    must_fit(&prompt)?;
    Ok(prompt)
}
