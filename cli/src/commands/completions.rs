//! `sessctl completions`.

use clap::CommandFactory;
use clap_complete::Shell;
use sessd_proto::Fault;

use crate::Context;

/// Print the completion script for a shell
///
/// For bash: `sessctl completions bash > ~/.local/share/bash-completion/completions/sessctl`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the shell
    shell: Shell,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Args::command(), "sessctl", &mut script);
    context.output.data(&String::from_utf8_lossy(&script))
}
