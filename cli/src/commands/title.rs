//! `sessctl title`.

use sessd_proto::Fault;
use sessd_proto::change::TitleRequest;

use super::change;
use crate::Context;

/// Give a session a title of your own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session
    selector: String,
    /// One line
    #[arg(required_unless_present = "clear", conflicts_with = "clear")]
    title: Option<String>,
    /// The provider's title again
    #[arg(long)]
    clear: bool,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let request = TitleRequest { selector: args.selector, title: args.title };
    let changed = context.connect()?.title(request)?;
    change::print(context, &changed, "titled")
}
