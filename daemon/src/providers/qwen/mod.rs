//! Qwen Code: one JSONL transcript per session in a folder per directory.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use sessd_proto::Environment;

use super::environment::environment;
use super::home::home;
use super::{Discovery, Forks, Home, Launcher, Provider, Turns, Version};

mod discovery;
mod flags;
mod ids;
mod launch;
mod live;
mod stream;
mod transcript;
mod turns;

/// Qwen Code.
pub struct Qwen;

/// The version from which on it forks sessions, shows who has one open, keeps an archive, and
/// recovers a transcript whose chain of records is broken.
const NEWER: Version = Version(0, 24, 0);

/// Selects settings and transcripts.
const HOME: &str = "QWEN_HOME";

/// Selects the transcripts alone.
const RUNTIME: &str = "QWEN_RUNTIME_DIR";

impl Provider for Qwen {
    fn id(&self) -> &'static str {
        "qwen"
    }

    fn program(&self) -> &'static str {
        "qwen"
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "QWEN_HOME",
            "QWEN_RUNTIME_DIR",
            "QWEN_MODEL",
            "QWEN_DEFAULT_AUTH_TYPE",
            "QWEN_CODE_SYSTEM_SETTINGS_PATH",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_MODEL",
            "DASHSCOPE_API_KEY",
            "OPENROUTER_API_KEY",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_MODEL",
            "GEMINI_API_KEY",
            "GEMINI_MODEL",
            "GOOGLE_API_KEY",
            "GOOGLE_MODEL",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let whole = home(env, HOME, "", ".qwen");
        let moved = env.get(RUNTIME).and(home(env, RUNTIME, "", ""));
        let Some(mut home) = moved.or_else(|| whole.clone()) else { return Vec::new() };
        for variable in [HOME, RUNTIME] {
            home.env.insert(variable.to_owned(), env.get(variable).map(str::to_owned));
        }
        vec![home]
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

    fn unknown_records(&self) -> Vec<String> {
        transcript::KINDS.unknown()
    }

    fn newest_tested(&self) -> Option<Version> {
        Some(Version(0, 24, 4))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn transcripts_may_live_apart_from_the_settings() {
        let env = |pairs: &[(&str, &str)]| {
            Environment(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let homes = |pairs| Qwen.homes(&env(pairs));
        let default = homes(&[("HOME", "/h")]).remove(0);
        assert_eq!(default.path, Path::new("/h/.qwen"));
        assert_eq!(default.env, [(HOME.to_owned(), None), (RUNTIME.to_owned(), None)].into());
        let moved = homes(&[("HOME", "/h"), (HOME, "/q"), (RUNTIME, "/r")]).remove(0);
        assert_eq!(moved.path, Path::new("/r"));
        assert_eq!(moved.env[HOME].as_deref(), Some("/q"));
        assert_eq!(moved.env[RUNTIME].as_deref(), Some("/r"));
        assert_eq!(homes(&[("HOME", "/h"), (HOME, "/q")])[0].path, Path::new("/q"));
        assert_eq!(homes(&[("HOME", "/h"), (RUNTIME, "relative")])[0].path, Path::new("/h/.qwen"));
    }
}
