//! `sessctl tools`.

use sessd_proto::Fault;
use sessd_proto::agent::{ServerInfo, ToolsRequest};

use crate::{Context, current_dir};

/// Show which MCP servers and tools an agent or a session has when it is started
///
/// Its provider is started, but no model. Where that tells nothing, the MCP servers that the agent
/// names are asked: nothing is known then of what is built in, nor of servers in the provider's own
/// settings, which an agent has that names none.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An agent, or a session
    #[arg(value_name = "AGENT|SELECTOR")]
    name: String,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let environment = context.declared(&mut client)?;
    let told = client.tools(ToolsRequest { name: args.name, cwd: current_dir()?, environment })?;
    if context.output.is_json() {
        return context.output.json(&told);
    }
    let mut rows: Vec<_> = told.servers.into_iter().flat_map(of_server).collect();
    rows.extend(
        told.tools.into_iter().map(|tool| vec!["-".to_owned(), "built in".to_owned(), tool]),
    );
    context.output.table(&["SERVER", "STATE", "TOOL"], &rows)
}

/// A row for each tool, or one that says why there is none.
fn of_server(server: ServerInfo) -> Vec<Vec<String>> {
    let ServerInfo { name, state, detail, mut tools } = server;
    if tools.is_empty() {
        tools.push(detail.map_or_else(|| "-".to_owned(), |why| format!("({why})")));
    }
    tools.into_iter().map(|tool| vec![name.clone(), state.clone(), tool]).collect()
}
