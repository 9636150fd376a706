//! `sessctl undelete`.

use sessd_proto::Fault;
use sessd_proto::change::SelectorsRequest;

use super::change;
use crate::Context;

/// Take sessions out of the trash, or lift a time to live that has passed
///
/// The whole id also brings back what has left the trash, while its transcript exists.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sessions: `sessctl list --trash`
    #[arg(required = true, value_name = "SELECTOR")]
    selectors: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = SelectorsRequest { selectors: args.selectors };
    let changed = context.connect()?.undelete(request)?;
    change::print(context, &changed, "undeleted")
}
