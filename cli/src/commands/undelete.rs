//! `sessctl undelete`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Restore sessions from the trash, or lift an expired time to live
///
/// A full id also restores a session that has left the trash, as long as its transcript exists.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions to restore; `sessctl list --trash` lists them
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.undelete(request)?;
    change::print(context, &changed, "undeleted")
}
