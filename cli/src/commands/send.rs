//! `sessctl send`: one prompt, and the answer on standard output while it arrives.

use std::io::{self, IsTerminal, Read};

use sessd_proto::client::Client;
use sessd_proto::turn::{Fallback, SendRequest, TurnOutputRequest, TurnState};
use sessd_proto::{Event, Fault, FaultCode, Session};
use uuid::Uuid;

use crate::{Context, current_dir, duration};

/// Send one prompt to a session, or to a new one
///
/// The answer goes to standard output, the session's id to standard error. With --new or --last
/// the one argument is the prompt; `-`, or nothing with a pipe on standard input, reads it
/// from there.
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
    /// Start a new session in this directory [default: the current one]
    #[arg(long, value_name = "DIR", requires = "begins")]
    cwd: Option<String>,
    /// When the session is gone: fail, or begin a new one under the same id
    #[arg(long, value_name = "fail|new", default_value = "fail", value_parser = fallback)]
    fallback: Fallback,
    /// Put the session into the trash this long after its last activity, e.g. 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    ttl: Option<i64>,
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
    let prompt = prompt(words.next())?;
    if words.next().is_some() {
        return Err(Fault::new(FaultCode::Usage, "more than one prompt").hint("quote the prompt"));
    }
    let mut client = context.connect()?;
    let environment = context.declared(&mut client)?;
    let cwd_given = args.cwd.is_some();
    let cwd = match args.cwd {
        Some(dir) => super::resume::existing(&dir)?,
        None => current_dir()?,
    };
    let accepted = client.send(SendRequest {
        turn_id: Uuid::new_v4().to_string(),
        selector,
        new_agent: args.new.or(args.agent),
        cwd,
        cwd_given,
        prompt,
        ttl_ms: args.ttl,
        fallback: args.fallback,
        environment,
    })?;
    if !context.output.is_json() {
        context.output.note(&format!("session: {}", accepted.session.id));
    }
    follow(context, &mut client, &accepted.turn.id)
}

/// Prints the answer while it arrives, until the turn has ended.
fn follow(context: &Context, client: &mut Client, turn_id: &str) -> Result<(), Fault> {
    let mut request = TurnOutputRequest {
        turn_id: turn_id.to_owned(),
        wait_ms: 30_000,
        ..TurnOutputRequest::default()
    };
    let mut text = String::new();
    let mut told = context.output.is_json();
    loop {
        let part = client.turn_output(request.clone())?;
        if part.turn.lost_context && !told {
            told = true;
            context.output.note("note: the session was gone: it begins anew, without its context");
        }
        for event in &part.events {
            request.after = event.seq;
            let said = spoken(event, &text);
            if !context.output.is_json() {
                context.output.data(&said)?;
            }
            text += &said;
        }
        let Some(session) = part.session else { continue };
        if !context.output.is_json() && !text.is_empty() && !text.ends_with('\n') {
            context.output.data("\n")?;
        }
        if context.output.is_json() {
            print_result(context, &session, &part.turn, &text)?;
        }
        return match part.turn.fault {
            Some(fault) => Err(fault),
            None if part.turn.state == TurnState::Succeeded => Ok(()),
            None => Err(Fault::new(
                FaultCode::ProviderFailed,
                format!("the turn was {}", part.turn.state),
            )),
        };
    }
}

/// What an event adds to the answer so far: a block of text begins on a line of its own, a part
/// of one goes on where the last has ended.
fn spoken(event: &Event, so_far: &str) -> String {
    let Some(text) = event.text.as_deref().filter(|_| event.kind == "text") else {
        return String::new();
    };
    let goes_on = event.data.0["delta"] == true || so_far.is_empty() || so_far.ends_with('\n');
    if goes_on { text.to_owned() } else { format!("\n{text}") }
}

fn print_result(
    context: &Context,
    session: &Session,
    turn: &sessd_proto::turn::Turn,
    text: &str,
) -> Result<(), Fault> {
    context.output.json(&serde_json::json!({
        "session": session, "turn": turn, "text": text, "lost_context": turn.lost_context,
    }))
}

fn fallback(text: &str) -> Result<Fallback, String> {
    Fallback::parse(text).ok_or_else(|| super::list::one_of(Fallback::ALL))
}

fn prompt(word: Option<String>) -> Result<String, Fault> {
    let from_stdin = match &word {
        Some(word) => word == "-",
        None => !io::stdin().is_terminal(),
    };
    if !from_stdin {
        return word.ok_or_else(|| {
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
