//! `sessctl providers`.

use sessd_proto::Fault;
use sessd_proto::provider::{Capabilities, HomeInfo, HomeState, ProviderInfo, ProvidersRequest};

use crate::Context;

/// List the providers: programs, homes and capabilities
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: &Args) -> Result<(), Fault> {
    let response = context.connect()?.providers(ProvidersRequest {})?;
    if context.output.is_json() {
        return context.output.json(&response);
    }
    let rows: Vec<_> = response.providers.iter().map(|info| row(context, info)).collect();
    context.output.table(&["NAME", "SESSIONS", "VERSION", "HOMES"], &rows)?;
    if !context.output.is_terminal() {
        return Ok(());
    }
    context.output.data("\n")?;
    let rows: Vec<_> = response.providers.iter().map(capabilities).collect();
    let head =
        ["NAME", "FIND", "CHECK", "RESUME", "FORK", "ANYWHERE", "SEND", "OWN ID", "SEEN", "EXPIRY"];
    context.output.table(&head, &rows)
}

fn row(context: &Context, info: &ProviderInfo) -> Vec<String> {
    let home = |home: &HomeInfo| match home.state {
        HomeState::Ok => context.output.dir(&home.path, context.env.get("HOME")),
        state => format!("{} ({state})", context.output.dir(&home.path, context.env.get("HOME"))),
    };
    let version = match (&info.program, &info.version) {
        (None, _) => "not on PATH".to_owned(),
        (Some(_), version) => version.clone().unwrap_or_else(|| "-".to_owned()),
    };
    let homes: Vec<_> = info.homes.iter().map(home).collect();
    vec![info.name.clone(), info.sessions.to_string(), version, homes.join(", ")]
}

fn capabilities(info: &ProviderInfo) -> Vec<String> {
    let Capabilities {
        discover,
        check,
        resume,
        fork,
        resume_anywhere,
        send,
        choose_id,
        foreign_use,
        retention,
    } = info.capabilities;
    let cell = |can: bool| if can { "yes" } else { "-" }.to_owned();
    let can =
        [discover, check, resume, fork, resume_anywhere, send, choose_id, foreign_use, retention];
    std::iter::once(info.name.clone()).chain(can.into_iter().map(cell)).collect()
}
