//! Prints the output of a turn as it arrives, for `send` and `turns follow`.

use serde_json::json;
use sessd_proto::client::Client;
use sessd_proto::turn::{Turn, TurnOutputRequest, TurnState};
use sessd_proto::{Event, EventType, Fault, FaultCode, Reason, Session};

use crate::Context;
use crate::output::Output;

/// Output format of a turn.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct How {
    /// Print every event as JSON, one per line, then the result object
    #[arg(long)]
    stream_json: bool,
    /// Print the provider's own output lines instead of the answer; with --stream-json as events
    #[arg(long)]
    pub(crate) raw: bool,
}

impl How {
    /// Makes faults JSON too if the output is.
    pub(crate) fn apply(self, output: &mut Output) {
        if self.stream_json {
            output.say_json();
        }
    }
}

/// Prints the output of a turn after an event, until the turn has ended.
pub(crate) fn follow(
    context: &Context,
    client: &mut Client,
    turn_id: String,
    after: i64,
    how: How,
) -> Result<(), Fault> {
    let mut request = TurnOutputRequest { turn_id, after, wait_ms: 30_000 };
    let mut text = String::new();
    let mut printed = String::new();
    let mut told = context.output.is_json();
    loop {
        let part = client.turn_output(request.clone())?;
        if part.turn.lost_context && !told {
            told = true;
            context.output.note("note: the session was gone and started over, without its context");
        }
        let lacks_them =
            request.after == 0 && part.events.first().is_some_and(|it| it.kind != EventType::Raw);
        if how.raw && lacks_them && !context.output.is_json() {
            context.output.note("note: only `send --raw` records the provider's own lines");
        }
        for event in &part.events {
            request.after = event.seq;
            let said = spoken(event, &text);
            if context.output.is_json() {
                text += &said;
            } else if !said.is_empty() {
                // Only its end matters.
                text.clone_from(&said);
            }
            let shown = match how {
                How { stream_json: true, .. } => line(event)?,
                _ if context.output.is_json() => continue,
                How { raw: true, .. } => own_line(event),
                _ => said,
            };
            if !shown.is_empty() {
                context.output.data(&shown)?;
                printed = shown;
            }
        }
        let Some(session) = part.session else { continue };
        warn_of_danger(context, &session);
        if context.output.is_json() {
            print_result(context, &session, &part.turn, &text, how)?;
        } else if !printed.is_empty() && !printed.ends_with('\n') {
            context.output.data("\n")?;
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

/// Warns that the provider is about to delete a session.
pub(crate) fn warn_of_danger(context: &Context, session: &Session) {
    if session.reason == Some(Reason::DeletedAtNextStart) {
        context.output.note(&format!(
            "warning: {} deletes the session {} at its next start in {}; why: `sessctl doctor`",
            session.provider,
            session.short_id(),
            session.launch_dir
        ));
    }
}

/// Returns the text that an event adds to the answer: a new block starts on a line of its own, a
/// delta continues the previous text.
fn spoken(event: &Event, so_far: &str) -> String {
    let Some(text) = event.text.as_deref().filter(|_| event.kind == EventType::Text) else {
        return String::new();
    };
    let goes_on = event.data.0["delta"] == true || so_far.is_empty() || so_far.ends_with('\n');
    if goes_on { text.to_owned() } else { format!("\n{text}") }
}

fn own_line(event: &Event) -> String {
    let text = event.text.as_deref().filter(|_| event.kind == EventType::Raw);
    text.map_or_else(String::new, |text| format!("{text}\n"))
}

fn line(value: &impl serde::Serialize) -> Result<String, Fault> {
    Ok(serde_json::to_string(value).map_err(Fault::internal)? + "\n")
}

fn print_result(
    context: &Context,
    session: &Session,
    turn: &Turn,
    text: &str,
    how: How,
) -> Result<(), Fault> {
    let result = json!({
        "session": session, "turn": turn, "text": text, "lost_context": turn.lost_context,
    });
    if how.stream_json {
        context.output.data(&line(&result)?)
    } else {
        context.output.json(&result)
    }
}
