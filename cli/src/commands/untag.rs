//! `sessctl untag`.

use sessd_proto::Fault;
use sessd_proto::change::TagRequest;

use super::change;
use crate::Context;

/// Remove tags from a session
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Session to change
    selector: String,
    /// Tags to remove; others are ignored
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = TagRequest { selector: args.selector, tags: args.tags };
    let changed = context.connect()?.untag(request)?;
    change::print(context, &changed, "untagged")
}
