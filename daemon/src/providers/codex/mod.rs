//! Codex: one JSONL rollout per session in a folder per day; archived ones are in a folder of
//! their own. Knows neither our registry nor the socket; writes nothing, starts nothing.

use sessd_proto::Environment;

use super::environment::environment;
use super::home::home;
use super::{Discovery, Forks, Home, Launcher, Provider, Turns, Version};

mod discovery;
mod flags;
mod format;
mod index;
mod launch;
mod lineage;
mod live;
mod model_providers;
mod names;
mod other_servers;
mod rollout;
mod stream;
mod talk;
mod turns;

/// Codex.
pub struct Codex;

impl Provider for Codex {
    fn id(&self) -> &'static str {
        "codex"
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CODEX_HOME",
            "CODEX_SQLITE_HOME",
            "CODEX_API_KEY",
            "CODEX_ACCESS_TOKEN",
            "CODEX_CA_CERTIFICATE",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_ORGANIZATION",
            "OPENAI_PROJECT",
            "AZURE_OPENAI_API_KEY",
            "SSL_CERT_FILE",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "CODEX_HOME", "", ".codex").into_iter().collect()
    }

    fn unknown_records(&self) -> Vec<String> {
        rollout::KINDS.unknown()
    }

    fn newest_tested(&self) -> Option<Version> {
        Some(Version(0, 171, 0))
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
