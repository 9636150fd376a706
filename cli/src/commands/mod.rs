//! One file for each verb; its doc comments are its help.

use clap::Subcommand;
use sessd_proto::Fault;

use crate::Context;

mod check;
mod completions;
mod daemon;
mod doctor;
mod jobs;
mod list;
mod providers;
mod resume;
mod send;
mod show;
mod status;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Resume(resume::Args),
    Send(send::Args),
    Check(check::Args),
    Providers(providers::Args),
    Jobs(jobs::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Daemon(daemon::Args),
    Completions(completions::Args),
}

impl Command {
    pub(crate) fn run(self, context: &mut Context) -> Result<(), Fault> {
        match self {
            Self::List(args) => list::run(context, args),
            Self::Show(args) => show::run(context, args),
            Self::Resume(args) => resume::run(context, args),
            Self::Send(args) => send::run(context, args),
            Self::Check(args) => check::run(context, args),
            Self::Providers(args) => providers::run(context, &args),
            Self::Jobs(args) => jobs::run(context, args),
            Self::Status(args) => status::run(context, &args),
            Self::Doctor(args) => doctor::run(context, &args),
            Self::Daemon(args) => daemon::run(context, &args),
            Self::Completions(args) => completions::run(context, &args),
        }
    }
}
