//! Claude Code: one JSONL transcript per session in a folder per project.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use sessd_proto::Environment;

use super::environment::environment;
use super::home::home;
use super::{Discovery, Forks, Home, Launcher, Provider, Turns, Version};

mod discovery;
mod flags;
mod launch;
mod lineage;
mod live;
mod names;
mod prompt;
mod settings;
mod stream;
mod transcript;
mod turns;

/// Claude Code.
pub struct Claude;

impl Provider for Claude {
    fn id(&self) -> &'static str {
        "claude"
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CLAUDE_CONFIG_DIR",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_MODEL",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_BEARER_TOKEN_BEDROCK",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLOUD_ML_REGION",
            "NODE_EXTRA_CA_CERTS",
            "IS_SANDBOX",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "CLAUDE_CONFIG_DIR", "", ".claude").into_iter().collect()
    }

    fn unknown_records(&self) -> Vec<String> {
        transcript::KINDS.unknown()
    }

    fn newest_tested(&self) -> Option<Version> {
        Some(Version(2, 1, 332))
    }

    fn discovery(&self) -> &dyn Discovery {
        self
    }

    fn launcher(&self) -> &dyn Launcher {
        self
    }

    fn turns(&self) -> Option<&dyn Turns> {
        Some(self)
    }

    fn forks(&self) -> Option<&dyn Forks> {
        Some(self)
    }
}
