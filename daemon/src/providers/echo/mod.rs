//! The built-in provider: it answers how many turns it has had and what it was told first.
//!
//! First runs, documentation and tests need no account. Its program is sessd itself, a real
//! child process with transcripts on disk, driven like any other provider.

use sessd_proto::Environment;

use super::home::home;
use super::{Discovery, Home, Launcher, Provider, Turns};

mod agent;
mod discovery;
mod launch;
mod transcript;
mod turns;

pub use agent::converse;

/// The built-in provider.
pub struct Echo;

/// Selects its home.
const HOME: &str = "SESSD_ECHO_HOME";

impl Provider for Echo {
    fn id(&self) -> &'static str {
        "echo"
    }

    fn program(&self) -> &'static str {
        "/proc/self/exe"
    }

    fn environment(&self) -> &'static [&'static str] {
        &[HOME]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let state = env.get("XDG_STATE_HOME").map(|state| format!("{state}/sessd/echo"));
        let default = state.unwrap_or_else(|| ".local/state/sessd/echo".to_owned());
        home(env, HOME, "", &default).into_iter().collect()
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
