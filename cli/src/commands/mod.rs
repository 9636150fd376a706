//! One file for each verb; its doc comments are its help.

use clap::Subcommand;
use sessd_proto::Fault;

use crate::Context;

mod change;
mod check;
mod cleanup;
mod completions;
mod daemon;
mod delete;
mod doctor;
mod jobs;
mod key;
mod list;
mod new;
mod pin;
mod providers;
mod resume;
mod send;
mod show;
mod status;
mod tag;
mod title;
mod undelete;
mod unpin;
mod untag;

/// Every verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Resume(resume::Args),
    New(new::Args),
    Send(send::Args),
    Check(check::Args),
    Tag(tag::Args),
    Untag(untag::Args),
    Pin(pin::Args),
    Unpin(unpin::Args),
    Title(title::Args),
    Key(key::Args),
    Delete(delete::Args),
    Undelete(undelete::Args),
    Cleanup(cleanup::Args),
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
            Self::New(args) => new::run(context, args),
            Self::Send(args) => send::run(context, args),
            Self::Check(args) => check::run(context, args),
            Self::Tag(args) => tag::run(context, args),
            Self::Untag(args) => untag::run(context, args),
            Self::Pin(args) => pin::run(context, args),
            Self::Unpin(args) => unpin::run(context, args),
            Self::Title(args) => title::run(context, args),
            Self::Key(args) => key::run(context, args),
            Self::Delete(args) => delete::run(context, args),
            Self::Undelete(args) => undelete::run(context, args),
            Self::Cleanup(args) => cleanup::run(context, &args),
            Self::Providers(args) => providers::run(context, &args),
            Self::Jobs(args) => jobs::run(context, args),
            Self::Status(args) => status::run(context, &args),
            Self::Doctor(args) => doctor::run(context, &args),
            Self::Daemon(args) => daemon::run(context, &args),
            Self::Completions(args) => completions::run(context, &args),
        }
    }
}
