//! `sessctl key`.

use clap::Subcommand;
use sessd_proto::Fault;
use sessd_proto::key::{DropKeyRequest, Key, KeyRequest, KeysRequest};

use super::{change, list};
use crate::Context;

/// Manage keys, your own names for sessions (e.g. @discord:42)
///
/// A key is `@` and 1 to 199 bytes without whitespace or control characters, and selects a
/// session in every command. It points to the same session until it is moved or dropped.
/// `sessctl send @KEY --agent AGENT PROMPT` starts a session for a key that has none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List keys and their sessions
    ///
    /// Through a pipe, the columns are separated by tabs: key, id, agent, status, last activity,
    /// title.
    List {
        /// Maximum number of keys, 1 to 500
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Continue after this key
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
    },
    /// Give a session a new key
    Bind {
        /// The key, with its @
        key: String,
        /// The session
        selector: String,
    },
    /// Point a key to another session
    Move {
        /// The key, with its @
        key: String,
        /// The session
        selector: String,
    },
    /// Remove a key; the session is kept
    Drop {
        /// The key, with its @
        key: String,
    },
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    match args.action {
        Action::List { limit, after } => {
            let page = client.keys(KeysRequest { limit, after })?;
            if context.output.is_json() {
                return context.output.json(&page);
            }
            table(context, &page.keys)?;
            if let Some(next) = page.next {
                context.output.note(&format!("more: `{}`", list::next_page(&next)));
            }
            Ok(())
        }
        Action::Bind { key, selector } => {
            let changed = client.bind_key(KeyRequest { key, selector })?;
            change::print(context, &changed, "bound")
        }
        Action::Move { key, selector } => {
            let changed = client.move_key(KeyRequest { key, selector })?;
            change::print(context, &changed, "moved")
        }
        Action::Drop { key } => {
            let changed = client.drop_key(DropKeyRequest { key: key.clone() })?;
            if changed.sessions.is_empty() {
                context.output.note(&format!("no session has the key {key}"));
            }
            change::print(context, &changed, "dropped")
        }
    }
}

fn table(context: &Context, keys: &[Key]) -> Result<(), Fault> {
    let row = |Key { key, session }: &Key| {
        vec![
            key.clone(),
            context.output.id(&session.id),
            session.agent.clone(),
            if session.trashed_at.is_some() {
                "trash".to_owned()
            } else {
                session.status.to_string()
            },
            context.output.moment(Some(session.last_activity)),
            session.title.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let head = ["KEY", "ID", "AGENT", "STATUS", "AGO", "TITLE"];
    if rows.is_empty() { Ok(()) } else { context.output.table(&head, &rows) }
}
