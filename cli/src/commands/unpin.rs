//! `sessctl unpin`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Remove the pin from sessions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions to unpin
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.unpin(request)?;
    change::print(context, &changed, "unpinned")
}
