//! `sessctl delete`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Move sessions to the trash; their transcripts are kept
///
/// Deleted sessions leave the lists (`sessctl list --trash` shows them) and, after
/// `cleanup.trash_days`, the registry. `sessctl undelete` brings them back, by their full id even
/// after that, as long as the transcript exists.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions to delete
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.delete(request)?;
    change::print(context, &changed, "deleted")?;
    let ids: Vec<_> = changed.sessions.iter().map(|session| session.short_id()).collect();
    context.output.note(&format!("undo: `sessctl undelete {}`", ids.join(" ")));
    Ok(())
}
