//! `sessctl tools`.

use sessd_proto::Fault;
use sessd_proto::agent::{ServerInfo, ToolsRequest};

use crate::{Context, current_dir};

/// List the MCP servers and tools of an agent or a session
///
/// Starts the provider, but calls no model. If the provider does not report its tools, the MCP
/// servers of the agent are asked directly; the output then lacks built-in tools, and servers from
/// the provider's own settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Agent or session
    #[arg(value_name = "AGENT|SELECTOR")]
    name: String,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let mut client = context.connect()?;
    let environment = context.declared_environment(&mut client)?;
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

/// Returns a row for each tool, or one with the reason why there is none.
fn of_server(server: ServerInfo) -> Vec<Vec<String>> {
    let ServerInfo { name, state, detail, mut tools } = server;
    if tools.is_empty() {
        tools.push(detail.map_or_else(|| "-".to_owned(), |why| format!("({why})")));
    }
    tools.into_iter().map(|tool| vec![name.clone(), state.clone(), tool]).collect()
}
