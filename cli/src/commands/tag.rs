//! `sessctl tag`.

use sessd_proto::Fault;
use sessd_proto::change::TagRequest;

use super::change;
use crate::Context;

/// Label a session; `sessctl list --tag` selects by it, and cleanups leave it alone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session
    selector: String,
    /// The labels, without spaces
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = TagRequest { selector: args.selector, tags: args.tags };
    let changed = context.connect()?.tag(request)?;
    change::print(context, &changed, "tagged")
}
