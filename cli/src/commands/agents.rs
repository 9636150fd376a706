//! `sessctl agents`.

use sessd_proto::Fault;
use sessd_proto::agent::{AgentInfo, AgentsRequest};

use crate::Context;

/// List the agents that `new` and `send --new` can start
///
/// Every provider is an agent. Your own are written in the configuration file, as [agents.NAME].
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &mut Context, _: &Args) -> Result<(), Fault> {
    let response = context.connect()?.agents(AgentsRequest {})?;
    if context.output.is_json() {
        return context.output.json(&response);
    }
    let rows: Vec<_> = response.agents.into_iter().map(|info| row(context, info)).collect();
    let head = ["NAME", "PROVIDER", "MODEL", "PERMISSION", "MCP SERVERS", "DEFINED IN"];
    context.output.table(&head, &rows)
}

fn row(context: &Context, info: AgentInfo) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let servers = match info.mcp_servers.join(" ") {
        none if none.is_empty() => "-".to_owned(),
        servers => servers,
    };
    let file = info.defined_in.map(|file| context.output.dir(&file, context.env.get("HOME")));
    vec![info.name, info.provider, text(info.model), text(info.permission), servers, text(file)]
}
