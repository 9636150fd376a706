//! Gemini CLI: one patch log per chat, in a folder per directory that is named by a slug.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use sessd_proto::Environment;

use super::environment::environment;
use super::home::home;
use super::{Discovery, Home, Launcher, Provider, Turns, Version};

mod chat;
mod directories;
mod discovery;
mod flags;
mod groups;
mod launch;
mod settings;
mod stream;
mod turns;

/// Gemini CLI.
pub struct Gemini;

impl Provider for Gemini {
    fn id(&self) -> &'static str {
        "gemini"
    }

    fn program(&self) -> &'static str {
        "gemini"
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "GEMINI_CLI_HOME",
            "GEMINI_API_KEY",
            "GEMINI_MODEL",
            "GEMINI_CLI_TRUST_WORKSPACE",
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
            "GOOGLE_API_KEY",
            "GOOGLE_GEMINI_BASE_URL",
            "GOOGLE_VERTEX_BASE_URL",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_CLOUD_LOCATION",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "GEMINI_CLI_HOME", ".gemini", ".gemini").into_iter().collect()
    }

    fn newest_tested(&self) -> Option<Version> {
        Some(Version(0, 61, 0))
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
}
