//! `sessctl cleanup`.

use sessd_proto::Fault;
use sessd_proto::cleanup::{Action, CleanupRequest};

use crate::Context;

/// Move expired sessions to the trash, and purge old trash
///
/// The daemon does this every hour by itself. Sessions past their time to live go to the trash;
/// so do sessions that have been gone at their provider, or registered and never started, for
/// `cleanup.grace_days`. They leave the registry after `cleanup.trash_days`. Pinned and tagged
/// sessions are kept, and transcripts are never touched. Anything removed by age must already
/// have been due an hour before.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<(), Fault> {
    let report = context.connect()?.cleanup(CleanupRequest { dry_run: args.dry_run })?;
    if context.output.is_json() {
        return context.output.json(&report);
    }
    if let Some(held) = &report.held {
        context.output.note(&format!("note: {held}"));
    }
    if report.actions.is_empty() {
        context.output.note("nothing to do");
        return Ok(());
    }
    let row = |action: &Action| {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            action.action.to_string(),
            action.session_id.as_deref().map_or_else(|| "-".to_owned(), |id| context.output.id(id)),
            action.reason.to_string(),
            action.count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            text(&action.provider),
            text(&action.title),
        ]
    };
    let rows: Vec<_> = report.actions.iter().map(row).collect();
    context.output.table(&["ACTION", "ID", "WHY", "ROWS", "PROVIDER", "TITLE"], &rows)
}
