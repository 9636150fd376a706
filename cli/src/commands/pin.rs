//! `sessctl pin`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Protect sessions from cleanups and from their time to live
///
/// A pin does not stop the provider from deleting the transcript; `sessctl show` predicts when it
/// will.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions to pin
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.pin(request)?;
    change::print(context, &changed, "pinned")
}
