//! `sessctl title`.

use sessd_proto::Fault;
use sessd_proto::change::TitleRequest;

use super::change;
use crate::Context;

/// Set the title of a session
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Session to change
    selector: String,
    /// New title: one line of at most 200 characters
    #[arg(required_unless_present = "clear", conflicts_with = "clear")]
    title: Option<String>,
    /// Use the provider's title again
    #[arg(long)]
    clear: bool,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = TitleRequest { selector: args.selector, title: args.title };
    let changed = context.connect()?.title(request)?;
    change::print(context, &changed, "titled")
}
