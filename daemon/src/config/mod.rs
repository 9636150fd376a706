//! The configuration: reads it and checks it. Knows no registry and no job.
//!
//! Three layers, each over the one before: the defaults (`config.default.toml`, embedded, the only
//! place of defaults), the user's file, and environment variables `SESSD_<SECTION>_<OPTION>`. They
//! are merged as TOML tables and only then converted to structs, so a struct has no defaults of
//! its own and an option is missing nowhere. The defaults also tell which options exist: any other
//! one is a fault that names the nearest. In the sections in `OPEN` users choose the keys;
//! agents and MCP servers among them are read one by one (`agents.rs`), so that a fault can name
//! the section and the option.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sessd_proto::environment::is_supervisors;
use sessd_proto::{Environment, Fault, FaultCode};
use toml::{Table, Value};

use crate::providers::{self, McpServer};

mod agents;
pub mod schedule;

pub use agents::{Agent, Flags};

const DEFAULTS: &str = include_str!("../../config.default.toml");

/// Sections whose keys are chosen by the user.
const OPEN: &[&str] = &["homes", "programs", "environment", "agents", "mcp_servers"];

/// Limit for `turns.per_provider`; a larger number is taken for a typing error.
const PER_PROVIDER_MAX: usize = 64;

/// Every option; see `config.default.toml` for their meaning.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Sweeps.
    pub discovery: Discovery,
    /// Checks.
    pub heartbeat: Heartbeat,
    /// Turns.
    pub turns: Turns,
    /// Cleanups.
    pub cleanup: Cleanup,
    /// How long the registry keeps its own records.
    pub retention: Retention,
    /// Additional homes, by provider.
    pub homes: BTreeMap<String, Vec<PathBuf>>,
    /// Programs, by provider.
    pub programs: BTreeMap<String, PathBuf>,
    /// Additional variables of the caller's environment, by provider.
    pub environment: BTreeMap<String, Vec<String>>,
    /// Launch profiles, by name; every provider's name is also one.
    #[serde(skip)]
    pub agents: BTreeMap<String, Agent>,
    /// MCP servers that agents may use, by name.
    #[serde(skip)]
    pub mcp_servers: BTreeMap<String, McpServer>,
}

/// Sweeps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Cron expression.
    pub schedule: String,
    /// True to watch the homes for changes.
    pub watch: bool,
}

/// Checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Cron expression.
    pub schedule: String,
    /// Sessions checked per run, at most.
    pub batch: u32,
    /// Seconds within which a check is not repeated.
    pub fresh_s: u32,
    /// Seconds before a predicted expiry at which the session is announced as expiring.
    pub expiring_s: u32,
}

/// Turns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turns {
    /// Turns of one provider that run at the same time, at most.
    pub per_provider: usize,
    /// Seconds after which a turn is ended.
    pub deadline_s: u64,
    /// Bytes of output after which a turn is ended.
    pub output_bytes_max: usize,
}

/// Cleanups.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cleanup {
    /// Cron expression.
    pub schedule: String,
    /// Days after which a session that is gone at its provider goes to the trash.
    pub grace_days: u32,
    /// Days after which a session leaves the trash for good.
    pub trash_days: u32,
}

/// How long the registry keeps its own records.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Events, at most.
    pub events: u32,
    /// Days that an event is kept.
    pub events_days: u32,
    /// Finished turns, at most.
    pub turns: u32,
    /// Days that a finished turn is kept.
    pub turns_days: u32,
    /// Runs of each job.
    pub job_runs: u32,
}

impl Config {
    /// Reads the configuration; a missing file means the defaults.
    ///
    /// # Errors
    /// [`FaultCode::ConfigInvalid`], which names the file and the line or the option.
    pub fn load(file: &Path, env: &Environment) -> Result<Self, Fault> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(invalid(format!("{}: {error}", file.display()))),
        };
        Self::merge(&text, env).map_err(|fault| Fault {
            message: format!("the configuration {}: {}", file.display(), fault.message),
            ..fault
        })
    }

    /// Returns the defaults.
    ///
    /// # Errors
    /// Never fails, as a test shows.
    pub fn defaults() -> Result<Self, Fault> {
        Self::merge("", &Environment::default())
    }

    fn merge(text: &str, env: &Environment) -> Result<Self, Fault> {
        let mut table = parse(DEFAULTS)?;
        for (section, options) in parse(text)? {
            overlay(&mut table, &section, options)?;
        }
        for (section, options) in &mut table {
            if let Some(options) = options.as_table_mut().filter(|_| !OPEN.contains(&&**section)) {
                from_environment(section, options, env)?;
            }
        }
        let mut open = |section| match table.remove(section) {
            Some(Value::Table(options)) => options,
            _ => Table::new(),
        };
        let mcp_servers = agents::servers(&open("mcp_servers"))?;
        let agents = agents::agents(&open("agents"), &mcp_servers)?;
        let config: Self =
            table.try_into().map_err(|error: toml::de::Error| invalid(error.message()))?;
        Self { agents, mcp_servers, ..config }.validate()
    }

    fn validate(self) -> Result<Self, Fault> {
        let ids: Vec<_> = providers::ALL.iter().map(|it| it.id().to_owned()).collect();
        let mut named =
            self.homes.keys().chain(self.programs.keys()).chain(self.environment.keys());
        if let Some(name) = named.find(|name| !ids.contains(name)) {
            return Err(unknown("provider", name, &ids));
        }
        let homes = self.homes.iter().flat_map(|(id, homes)| homes.iter().map(move |it| (id, it)));
        let homes = homes.map(|(id, path)| ("homes", id, path));
        let programs = self.programs.iter().map(|(id, path)| ("programs", id, path));
        if let Some((section, id, path)) = homes.chain(programs).find(|it| !it.2.is_absolute()) {
            let what = format!("{section}.{id}: `{}` is not an absolute path", path.display());
            return Err(invalid(what));
        }
        let variables = self
            .environment
            .iter()
            .flat_map(|(id, names)| names.iter().map(move |name| (id, name)));
        for (id, name) in variables {
            if name.is_empty() || name.contains(['=', '\0']) || is_supervisors(name) {
                return Err(invalid(format!("environment.{id}: `{name}` cannot be passed on")));
            }
        }
        for (job, expression) in [
            ("discovery", &self.discovery.schedule),
            ("heartbeat", &self.heartbeat.schedule),
            ("cleanup", &self.cleanup.schedule),
        ] {
            schedule::parse(expression)
                .map_err(|why| invalid(format!("{job}.schedule: `{expression}`: {why}")))?;
        }
        if self.turns.per_provider == 0 || self.heartbeat.batch == 0 {
            return Err(invalid("turns.per_provider and heartbeat.batch must be at least 1"));
        }
        if self.turns.per_provider > PER_PROVIDER_MAX {
            return Err(invalid(format!("turns.per_provider is at most {PER_PROVIDER_MAX}")));
        }
        Ok(self)
    }
}

fn parse(text: &str) -> Result<Table, Fault> {
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        invalid(format!("line {line}: {}", error.message()))
    })
}

/// Overrides the defaults with one section of the user's file.
fn overlay(table: &mut Table, section: &str, options: Value) -> Result<(), Fault> {
    let Some(Value::Table(known)) = table.get_mut(section) else {
        return Err(unknown("section", section, table.keys()));
    };
    let Value::Table(options) = options else {
        return Err(invalid(format!("`{section}` is a section: write [{section}]")));
    };
    for (option, value) in options {
        match known.get(&option) {
            None if !OPEN.contains(&section) => {
                return Err(unknown(
                    "option",
                    &format!("{section}.{option}"),
                    &qualified(section, known.keys()),
                ));
            }
            Some(old) if !old.same_type(&value) => {
                return Err(invalid(format!(
                    "{section}.{option} takes {}, not {}",
                    old.type_str(),
                    value.type_str()
                )));
            }
            _ => known.insert(option, value),
        };
    }
    Ok(())
}

fn qualified(
    section: &str,
    known: impl IntoIterator<Item = impl std::fmt::Display>,
) -> Vec<String> {
    known.into_iter().map(|option| format!("{section}.{option}")).collect()
}

fn from_environment(section: &str, options: &mut Table, env: &Environment) -> Result<(), Fault> {
    for (option, value) in options {
        let name = format!("SESSD_{section}_{option}").to_uppercase();
        let Some(text) = env.get(&name) else { continue };
        let wrong = |_| invalid(format!("{name}: `{text}` is not of type {}", value.type_str()));
        *value = match value {
            Value::Integer(_) => {
                text.parse().map(Value::Integer).map_err(|e| wrong(e.to_string()))?
            }
            Value::Boolean(_) => {
                text.parse().map(Value::Boolean).map_err(|e| wrong(e.to_string()))?
            }
            _ => Value::String(text.to_owned()),
        };
    }
    Ok(())
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a String>) -> Fault {
    let fault = invalid(format!("unknown {what} `{name}`"));
    match nearest(name, known) {
        Some(nearest) => fault.hint(format!("did you mean `{nearest}`?")),
        None => fault,
    }
}

/// Returns the known name that is most similar to `name`.
pub(crate) fn nearest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a String>,
) -> Option<&'a String> {
    known.into_iter().min_by_key(|candidate| strsim::levenshtein(candidate, name))
}

fn invalid(what: impl Into<String>) -> Fault {
    Fault::new(FaultCode::ConfigInvalid, what)
        .hint("correct it, then `sessctl daemon restart`; for all options: `sessd --print-config`")
}

/// Returns `config.default.toml`.
#[must_use]
pub fn defaults_text() -> &'static str {
    DEFAULTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn defaults_are_complete() {
        Config::defaults().unwrap();
    }

    #[test]
    fn file_overrides_defaults_and_environment_overrides_both() {
        let file = "[heartbeat]\nbatch = 7\n[programs]\nclaude = \"/c\"\n";
        let config = Config::merge(file, &Environment::default()).unwrap();
        assert_eq!((config.heartbeat.batch, config.turns.per_provider), (7, 3));
        assert_eq!(config.programs["claude"], Path::new("/c"));
        let config = Config::merge(file, &env(&[("SESSD_HEARTBEAT_BATCH", "9")])).unwrap();
        assert_eq!(config.heartbeat.batch, 9);
    }

    #[test]
    fn unknown_option_names_the_nearest_one() {
        let fault = Config::merge("[heartbeat]\nbach = 7", &Environment::default()).unwrap_err();
        assert_eq!(fault.message, "unknown option `heartbeat.bach`");
        assert_eq!(fault.hint.unwrap(), "did you mean `heartbeat.batch`?");
        let fault = Config::merge("[hartbeat]", &Environment::default()).unwrap_err();
        assert_eq!(fault.hint.unwrap(), "did you mean `heartbeat`?");
    }

    #[test]
    fn unknown_provider_names_the_nearest_one() {
        let fault = Config::merge("[homes]\ncluade = []", &Environment::default()).unwrap_err();
        assert_eq!(fault.message, "unknown provider `cluade`");
        assert_eq!(fault.hint.unwrap(), "did you mean `claude`?");
    }

    #[test]
    fn invalid_options_are_named() {
        let message = |text: &str, pairs: &[(&str, &str)]| {
            Config::merge(text, &env(pairs)).unwrap_err().message
        };
        assert!(message("[heartbeat]\n\nbatch = = 1", &[]).starts_with("line 3"));
        assert_eq!(
            message("[heartbeat]\nbatch = \"x\"", &[]),
            "heartbeat.batch takes integer, not string"
        );
        assert!(message("", &[("SESSD_HEARTBEAT_BATCH", "many")]).contains("`many`"));
        assert!(message("[discovery]\nschedule = \"hourly\"", &[]).contains("discovery.schedule"));
        assert!(message("[turns]\nper_provider = 0", &[]).contains("at least 1"));
        assert!(message("[turns]\nper_provider = 65", &[]).contains("at most 64"));
        assert_eq!(
            message("[homes]\nclaude = [\"/a\", \"b\"]", &[]),
            "homes.claude: `b` is not an absolute path"
        );
        assert_eq!(
            message("[environment]\ncodex = [\"A=B\"]", &[]),
            "environment.codex: `A=B` cannot be passed on"
        );
        assert!(message("[programs]\ncodex = \"~/codex\"", &[]).starts_with("programs.codex"));
    }
}
