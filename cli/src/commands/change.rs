//! Output of the commands that change sessions: one line per session.

use serde::Serialize;
use sessd_proto::change::ChangeResponse;
use sessd_proto::{Fault, Session};

use crate::Context;

/// The JSON output.
#[derive(Serialize)]
struct Sessions<'a> {
    sessions: &'a [Session],
}

/// Prints the changed sessions, and what was done to them.
pub(super) fn print(context: &Context, changed: &ChangeResponse, done: &str) -> Result<(), Fault> {
    if context.output.is_json() {
        return context.output.json(&Sessions { sessions: &changed.sessions });
    }
    let row = |session: &Session| {
        vec![
            done.to_owned(),
            context.output.id(&session.id),
            session.provider.clone(),
            session.status.to_string(),
            session.tags.join(","),
            session.title.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = changed.sessions.iter().map(row).collect();
    context.output.table(&["DONE", "ID", "PROVIDER", "STATUS", "TAGS", "TITLE"], &rows)
}
