//! Agents: what `new` and `send` can start, as the configuration has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
