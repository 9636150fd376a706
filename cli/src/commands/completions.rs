//! `sessctl completions`.

use clap::CommandFactory;
use clap_complete::Shell;
use sessd_proto::Fault;

use crate::Context;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Args::command(), "sessctl", &mut script);
    context.output.data(&String::from_utf8_lossy(&script))
}
