//! `sessctl delete`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Put sessions into the trash; their transcripts stay at the provider
///
/// They leave the lists (`sessctl list --trash` shows them) and, after `cleanup.trash_days`, the
/// registry. Until then, and while the transcript exists, `sessctl undelete` brings them back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sessions
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.delete(request)?;
    change::print(context, &changed, "deleted")?;
    let ids: Vec<_> = changed.sessions.iter().map(|session| session.short_id()).collect();
    context.output.note(&format!("back: `sessctl undelete {}`", ids.join(" ")));
    Ok(())
}
