//! The services that Codex may ask for a model: those it knows, and those of its settings. It goes
//! on with a session only through the service that the session began with, and refuses if that is
//! not configured any more or is not the one that is chosen. Knows no rollout.
//!
//! Settings of a project cannot add a service. Those that a profile adds count here whatever the
//! profile of the next start is: a session is not said to be refused unless it certainly is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::other_servers::{SETTINGS, SYSTEM};
use crate::providers::{Home, file};

/// The services that need no configuration, as version 0.171 has them.
const BUILT_IN: [&str; 4] = [DEFAULT, "amazon-bedrock", "lmstudio", "ollama"];

const DEFAULT: &str = "openai";

/// The services of a home.
pub(super) struct ModelProviders {
    /// `None` if the settings cannot be read.
    configured: Option<BTreeSet<String>>,
}

impl ModelProviders {
    /// Reads the settings of a home and of the system.
    pub(super) fn read(home: &Home) -> Self {
        let mut configured = BTreeSet::new();
        for path in settings(home) {
            match table(&path) {
                Some(settings) => configured.extend(services(&settings)),
                None => return Self { configured: None },
            }
        }
        Self { configured: Some(configured) }
    }

    /// True if the CLI certainly has no such service.
    pub(super) fn lack(&self, name: &str) -> bool {
        let is_unknown = |configured: &BTreeSet<String>| !configured.contains(name);
        !BUILT_IN.contains(&name) && self.configured.as_ref().is_some_and(is_unknown)
    }
}

/// Returns the argument that chooses a service.
pub(super) fn choose(name: &str) -> String {
    format!("--config=model_provider={}", Value::String(name.to_owned()))
}

/// Returns the files that exist.
fn settings(home: &Home) -> Vec<PathBuf> {
    let mut files = vec![Path::new(SYSTEM).join(SETTINGS)];
    let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
    let own = entries.map(|entry| entry.path());
    files.extend(own.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name == SETTINGS || name.ends_with(&format!(".{SETTINGS}")) || name == "managed_config.toml"
    }));
    files.retain(|path| path.exists());
    files
}

fn table(path: &Path) -> Option<Table> {
    file::settings(path)?.parse().ok()
}

fn services(settings: &Table) -> impl Iterator<Item = String> {
    let services = settings.get("model_providers").and_then(Value::as_table);
    services.into_iter().flat_map(|services| services.keys().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_missing_only_where_the_settings_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let lack = |name: &str| ModelProviders::read(&home).lack(name);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert!(lack("proxy") && !lack("openai") && !lack("ollama"));
        write("work.config.toml", "[model_providers.proxy]\nname = \"Proxy\"\n");
        assert!(!lack("proxy") && lack("other"));
        write("config.toml", "model_provider = ");
        assert!(!lack("other"));
    }
}
