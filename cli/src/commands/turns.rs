//! `sessctl turns`: lists, shows, follows and cancels turns.

use clap::Subcommand;
use sessd_proto::Fault;
use sessd_proto::turn::{CancelRequest, Turn, TurnState, TurnsRequest};

use super::list::{next_page, one_of};
use crate::Context;
use crate::follow::{How, follow};

/// List turns, newest first; show, follow or cancel one
///
/// A turn is one prompt and its answer. Prints at most --limit turns. Through a pipe, the columns
/// are separated by tabs and not shortened: id, state, session, agent, time of acceptance,
/// duration, prompt. An ID may be shortened to a unique prefix of at least 4 characters.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only turns of this session
    #[arg(long, value_name = "SELECTOR")]
    session: Option<String>,
    /// Only turns in this state: queued, running, succeeded, failed, cancelled, interrupted
    #[arg(long, value_parser = state)]
    state: Option<TurnState>,
    /// Maximum number of turns, 1 to 500
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Continue after the page that ended with this cursor
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show everything about one turn
    Show {
        /// Id of the turn
        id: String,
    },
    /// Print the output of a turn from its start, until the turn has ended
    Follow {
        /// Id of the turn
        id: String,
        /// Only output after the event with this number
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: i64,
        #[command(flatten)]
        how: How,
    },
    /// Stop a queued or running turn
    ///
    /// A queued turn is never started. The provider of a running turn is asked to exit, and killed
    /// two seconds later. A finished turn is not changed.
    Cancel {
        /// Id of the turn
        id: String,
    },
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    match args.action {
        None => {}
        Some(Action::Show { id }) => {
            let request = TurnsRequest { turn_id: Some(id), ..TurnsRequest::default() };
            let turn = client.turns(request)?.turns.pop();
            let turn = turn.ok_or_else(|| Fault::internal("the daemon returned no turn"))?;
            return show(context, &turn);
        }
        Some(Action::Follow { id, after, how }) => {
            how.apply(&mut context.output);
            return follow(context, &mut client, id, after, how);
        }
        Some(Action::Cancel { id }) => {
            let turn = client.cancel(CancelRequest { turn_id: id })?;
            return match context.output.is_json() {
                true => context.output.json(&turn),
                false => context.output.data(&format!("{} {}\n", turn.id, turn.state)),
            };
        }
    }
    let Args { session, state, limit, after, .. } = args;
    let page = client.turns(TurnsRequest { turn_id: None, session, state, limit, after })?;
    if context.output.is_json() {
        return context.output.json(&page);
    }
    let rows: Vec<_> = page.turns.iter().map(|turn| row(context, turn)).collect();
    if !rows.is_empty() {
        let head = ["ID", "STATE", "SESSION", "AGENT", "AGO", "TOOK", "PROMPT"];
        context.output.table(&head, &rows)?;
    }
    if let Some(next) = page.next.filter(|_| context.output.is_terminal()) {
        context.output.note(&format!("more: `{}`", next_page(&next)));
    }
    Ok(())
}

fn row(context: &Context, turn: &Turn) -> Vec<String> {
    let output = &context.output;
    vec![
        output.id(&turn.id),
        turn.state.to_string(),
        output.id(&turn.session_id),
        turn.agent.clone(),
        output.moment(Some(turn.queued_at)),
        took(turn),
        turn.prompt.clone(),
    ]
}

/// Returns how long the provider took, in seconds.
fn took(turn: &Turn) -> String {
    match (turn.started_at, turn.finished_at) {
        (Some(started), Some(finished)) => {
            format!("{:.1}s", (finished.0 - started.0) as f64 / 1e3)
        }
        _ => "-".to_owned(),
    }
}

fn show(context: &Context, turn: &Turn) -> Result<(), Fault> {
    if context.output.is_json() {
        return context.output.json(turn);
    }
    let moment = |at| context.output.moment(at);
    let fault = turn.fault.as_ref();
    context.output.pairs(&[
        ("id", turn.id.clone()),
        ("state", turn.state.to_string()),
        ("session", turn.session_id.clone()),
        ("agent", turn.agent.clone()),
        ("prompt", turn.prompt.clone()),
        ("accepted", moment(Some(turn.queued_at))),
        ("started", moment(turn.started_at)),
        ("ended", moment(turn.finished_at)),
        ("took", took(turn)),
        ("fault", fault.map_or_else(|| "-".to_owned(), |fault| fault.message.clone())),
    ])
}

fn state(text: &str) -> Result<TurnState, String> {
    TurnState::parse(text).ok_or_else(|| one_of(TurnState::ALL))
}
