//! One file for each command; its doc comments are its help.

use clap::Subcommand;
use sessd_proto::Fault;

use crate::Context;
use crate::lazy::Lazy;

mod agents;
mod change;
mod check;
mod cleanup;
mod completions;
mod daemon;
mod delete;
mod doctor;
mod help;
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
mod tools;
mod turns;
mod undelete;
mod unpin;
mod untag;

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(Lazy<list::Args>),
    Show(Lazy<show::Args>),
    Resume(Lazy<resume::Args>),
    New(Lazy<new::Args>),
    Send(Lazy<send::Args>),
    Turns(Lazy<turns::Args>),
    Check(Lazy<check::Args>),
    Tag(Lazy<tag::Args>),
    Untag(Lazy<untag::Args>),
    Pin(Lazy<pin::Args>),
    Unpin(Lazy<unpin::Args>),
    Title(Lazy<title::Args>),
    Key(Lazy<key::Args>),
    Delete(Lazy<delete::Args>),
    Undelete(Lazy<undelete::Args>),
    Cleanup(Lazy<cleanup::Args>),
    Providers(Lazy<providers::Args>),
    Agents(Lazy<agents::Args>),
    Tools(Lazy<tools::Args>),
    Jobs(Lazy<jobs::Args>),
    Status(Lazy<status::Args>),
    Doctor(Lazy<doctor::Args>),
    Daemon(Lazy<daemon::Args>),
    Completions(Lazy<completions::Args>),
    Help(Lazy<help::Args>),
}

impl Command {
    pub(crate) fn run(self, context: &mut Context) -> Result<(), Fault> {
        match self {
            Self::List(args) => list::run(context, args.0),
            Self::Show(args) => show::run(context, args.0),
            Self::Resume(args) => resume::run(context, args.0),
            Self::New(args) => new::run(context, args.0),
            Self::Send(args) => send::run(context, args.0),
            Self::Turns(args) => turns::run(context, args.0),
            Self::Check(args) => check::run(context, args.0),
            Self::Tag(args) => tag::run(context, args.0),
            Self::Untag(args) => untag::run(context, args.0),
            Self::Pin(args) => pin::run(context, args.0),
            Self::Unpin(args) => unpin::run(context, args.0),
            Self::Title(args) => title::run(context, args.0),
            Self::Key(args) => key::run(context, args.0),
            Self::Delete(args) => delete::run(context, args.0),
            Self::Undelete(args) => undelete::run(context, args.0),
            Self::Cleanup(args) => cleanup::run(context, &args.0),
            Self::Providers(args) => providers::run(context, &args.0),
            Self::Agents(args) => agents::run(context, &args.0),
            Self::Tools(args) => tools::run(context, args.0),
            Self::Jobs(args) => jobs::run(context, args.0),
            Self::Status(args) => status::run(context, &args.0),
            Self::Doctor(args) => doctor::run(context, &args.0),
            Self::Daemon(args) => daemon::run(context, &args.0),
            Self::Completions(args) => completions::run(context, &args.0),
            Self::Help(args) => help::run(context, args.0),
        }
    }
}
