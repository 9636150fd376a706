//! `sessctl pin`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Protect sessions from every cleanup, and from their time to live
///
/// The provider's own deletion is not stopped by it; `sessctl show` predicts that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sessions
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.pin(request)?;
    change::print(context, &changed, "pinned")
}
