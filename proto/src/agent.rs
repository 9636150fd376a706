//! Agents: the launch profiles that `new` and `send` can start, and the tools that a start has.
//! Data only: it must not know the daemon or the client.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Environment;

/// Request of `agents`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentsRequest {}

/// Response of `agents`: every agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentsResponse {
    /// Sorted by name.
    pub agents: Vec<AgentInfo>,
}

/// A named launch profile from the configuration. Values of environment variables are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentInfo {
    /// Name of the agent.
    pub name: String,
    /// Id of the provider that it starts.
    pub provider: String,
    /// The model. `null`, here and below, leaves the choice to the provider's settings.
    pub model: Option<String>,
    /// Actions that it may take without asking: `ask` (nothing), `edit` (change files) or `all`.
    pub permission: Option<String>,
    /// Text added to the provider's own system prompt.
    pub system_prompt: Option<String>,
    /// Name of an agent or profile in the provider's own settings.
    pub profile: Option<String>,
    /// Additional arguments of the program.
    pub args: Vec<String>,
    /// Names of the environment variables that it sets.
    pub env: Vec<String>,
    /// Directory in which its new sessions start, unless the caller names one.
    pub directory: Option<String>,
    /// Names of its MCP servers.
    pub mcp_servers: Vec<String>,
    /// Path of the configuration file that defines it; `null` for an agent with defaults only.
    pub defined_in: Option<String>,
}

/// Request of `tools`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ToolsRequest {
    /// Name of an agent, else a selector of a session.
    pub name: String,
    /// Absolute path of the caller's directory, where an agent without one of its own is started.
    pub cwd: String,
    /// The caller's environment variables that `environment` names.
    pub environment: Environment,
}

/// Response of `tools`: the tools that were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolsResponse {
    /// Name of the agent.
    pub agent: String,
    /// Id of its provider.
    pub provider: String,
    /// Source of the list: `provider`, or `servers` if the provider does not report its tools.
    pub told_by: String,
    /// The provider's built-in tools, if it reports them.
    pub tools: Vec<String>,
    /// The MCP servers and their tools.
    pub servers: Vec<ServerInfo>,
}

/// State and tools of an MCP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// Name of the server.
    pub name: String,
    /// `connected`, `needs-auth`, `failed`, or another state that the provider reports.
    pub state: String,
    /// The reason why it is not connected.
    pub detail: Option<String>,
    /// Names of its tools, as the provider or, if `told_by` is `servers`, the server has them.
    pub tools: Vec<String>,
}
