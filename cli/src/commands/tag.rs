//! `sessctl tag`.

use sessd_proto::Fault;
use sessd_proto::change::TagRequest;

use super::change;
use crate::Context;

/// Tag a session; tags filter lists and protect from cleanups
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Session to tag
    selector: String,
    /// Tags: 1 to 64 characters each, without whitespace
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = TagRequest { selector: args.selector, tags: args.tags };
    let changed = context.connect()?.tag(request)?;
    change::print(context, &changed, "tagged")
}
