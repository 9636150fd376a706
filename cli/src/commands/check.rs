//! `sessctl check`.

use sessd_proto::session::CheckRequest;
use sessd_proto::{Fault, Reason, Session};

use super::list::{Sessions, note_discovering, note_unreadable};
use crate::Context;

/// Check now whether sessions can be resumed
///
/// Calls no model and writes nothing at the provider. Exits with 0 whatever the result; the
/// reasons are explained in `sessctl help reasons`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions to check
    #[arg(value_name = "SELECTOR", required_unless_present = "all", conflicts_with = "all")]
    selectors: Vec<String>,
    /// Check every session
    #[arg(long)]
    all: bool,
    /// Accept that sessions are gone even if more than half of a home disappeared at once
    #[arg(long)]
    accept_losses: bool,
}

/// Sessions that are checked in one call.
const PAGE: u32 = 200;

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let mut request = CheckRequest {
        selectors: args.selectors,
        accept_losses: args.accept_losses,
        limit: PAGE,
        ..CheckRequest::default()
    };
    let mut sessions = Vec::new();
    let incomplete;
    loop {
        let mut page = client.check(request.clone())?;
        sessions.append(&mut page.sessions);
        request.after = page.next;
        if request.after.is_none() {
            note_discovering(context, args.all && page.discovering);
            note_unreadable(context, &page.unreadable);
            incomplete = page.unreadable;
            break;
        }
    }
    if context.output.is_json() {
        return context.output.json(&Sessions { sessions, next: None, incomplete });
    }
    let row = |session: &Session| {
        vec![
            context.output.id(&session.id),
            session.provider.clone(),
            session.status.to_string(),
            session.reason.map_or("-", Reason::as_str).to_owned(),
            session.title.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    context.output.table(&["ID", "PROVIDER", "STATUS", "REASON", "TITLE"], &rows)
}
