//! Agents: what `new` and `send` can start, as the configuration has it, and the tools that this
//! gives them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Environment;

/// Asks for every agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentsRequest {}

/// Every agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentsResponse {
    /// By name.
    pub agents: Vec<AgentInfo>,
}

/// A named launch profile. Values of variables are never told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentInfo {
    /// Its name.
    pub name: String,
    /// Whom it starts.
    pub provider: String,
    /// The model; `null` leaves it to the provider's settings, as with all of these.
    pub model: Option<String>,
    /// What it may do without asking: `ask`, `edit` or `all`.
    pub permission: Option<String>,
    /// What it is told besides the provider's own system prompt.
    pub system_prompt: Option<String>,
    /// An agent or profile of the provider's own.
    pub profile: Option<String>,
    /// More arguments.
    pub args: Vec<String>,
    /// Names of the variables that are set.
    pub env: Vec<String>,
    /// Where its new sessions start, unless the caller says where.
    pub directory: Option<String>,
    /// Names of its MCP servers.
    pub mcp_servers: Vec<String>,
    /// The configuration file; `null` if nothing was written down about it.
    pub defined_in: Option<String>,
}

/// Asks which tools an agent or a session has when it is started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ToolsRequest {
    /// An agent's name, else a selector of a session.
    pub name: String,
    /// The caller's directory: where an agent without one of its own is started.
    pub cwd: String,
    /// The caller's variables, as far as providers declared an interest in them.
    pub environment: Environment,
}

/// What a start came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolsResponse {
    /// The agent.
    pub agent: String,
    /// Whom it starts.
    pub provider: String,
    /// Who told it: `provider`, or `servers` where a provider tells nothing before a prompt.
    pub told_by: String,
    /// The provider's own tools, where it tells them.
    pub tools: Vec<String>,
    /// The MCP servers.
    pub servers: Vec<ServerInfo>,
}

/// An MCP server as it was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// Its name.
    pub name: String,
    /// `connected`, `needs-auth`, `failed` or a word of the provider's.
    pub state: String,
    /// Why it is not connected.
    pub detail: Option<String>,
    /// Its tools: as the provider calls them, or as the server does.
    pub tools: Vec<String>,
}
