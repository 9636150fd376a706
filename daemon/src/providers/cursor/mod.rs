//! Cursor CLI: a folder per chat, with the conversation in a SQLite store.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.
//!
//! When a chat that is gone is resumed, the CLI silently starts a new one under the same id. So
//! the scope, which tells chats with one id apart, is the time at which each was created.

use std::path::{Path, PathBuf};

use sessd_proto::Environment;

use super::environment::environment;
use super::{Discovery, Home, Launcher, Provider, Turns};

mod discovery;
mod launch;
mod live;
mod store;
mod stream;
mod turns;

/// Cursor CLI.
pub struct Cursor;

/// Selects the home; it precedes every other variable.
const HOME: &str = "CURSOR_CONFIG_DIR";

impl Provider for Cursor {
    fn id(&self) -> &'static str {
        "cursor"
    }

    fn program(&self) -> &'static str {
        "cursor-agent"
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CURSOR_CONFIG_DIR",
            "XDG_CONFIG_HOME",
            "CURSOR_DATA_DIR",
            "CURSOR_API_KEY",
            "CURSOR_AUTH_TOKEN",
            "CURSOR_API_ENDPOINT",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    /// Returns the home that the CLI would choose, then all others in which an earlier shell or
    /// version may have left chats.
    fn homes(&self, env: &Environment) -> Vec<Home> {
        let in_config = env.get("XDG_CONFIG_HOME").map(|base| Path::new(base).join("cursor"));
        let in_home = |name| env.get("HOME").map(|base| Path::new(base).join(name));
        let chosen = env.get(HOME).map(PathBuf::from);
        let candidates = [chosen, in_config, in_home(".cursor"), in_home(".config/cursor")];
        let mut homes: Vec<Home> = Vec::new();
        for path in candidates.into_iter().flatten() {
            let path: PathBuf = path.components().collect();
            let env = [(HOME.to_owned(), path.to_str().map(str::to_owned))].into();
            let home = Home { path, env };
            if home.path.is_absolute() && !homes.contains(&home) {
                homes.push(home);
            }
        }
        homes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_of_earlier_shells_and_versions_are_included() {
        let homes = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let homes = Cursor.homes(&Environment(pairs.collect()));
            let path = |home: Home| home.path.to_str().unwrap().to_owned();
            homes.into_iter().map(path).collect::<Vec<_>>()
        };
        let everywhere = ["/h/.cursor", "/h/.config/cursor"];
        assert_eq!(homes(&[("HOME", "/h")]), everywhere);
        let set = [("HOME", "/h"), (HOME, "/c/"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(homes(&set), ["/c", "/x/cursor", "/h/.cursor", "/h/.config/cursor"]);
        assert_eq!(homes(&[("HOME", "/h"), (HOME, "relative")]), everywhere);
        assert_eq!(homes(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/h/.config")]).len(), 2);
    }
}
