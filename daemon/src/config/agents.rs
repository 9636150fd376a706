//! Agents and MCP servers: reads their sections and checks them. Knows which options a provider
//! accepts, not how it passes them on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sessd_proto::{Environment, Fault};
use toml::{Table, Value};

use super::{invalid, qualified, unknown};
use crate::providers::{self, McpServer, Permission, Provider};

/// The options of an agent.
const AGENT: &[&str] = &[
    "provider",
    "directory",
    "env",
    "model",
    "permission",
    "system_prompt",
    "profile",
    "args",
    "mcp_servers",
];

/// The options of an MCP server.
const SERVER: &[&str] = &["command", "args", "env", "cwd", "url", "headers"];

/// Limit for a system prompt, in bytes: it must fit into one program argument.
const SYSTEM_PROMPT_MAX: usize = 100 * 1024;

/// A named launch profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Agent {
    /// Id of the provider it starts.
    pub provider: String,
    /// Directory in which new sessions start, unless the caller names one.
    pub directory: Option<PathBuf>,
    /// Environment variables to set.
    pub env: Environment,
    /// Options that the provider must support.
    #[serde(flatten)]
    pub flags: Flags,
    /// False for a provider's name that has no section.
    #[serde(skip)]
    pub is_written: bool,
}

/// Options for a provider. They are stored with each session and applied at every start. Nothing
/// in them is secret: MCP servers are stored by name and looked up at every start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flags {
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Actions allowed without asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
    /// Text added to the provider's system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Agent or profile that the provider's own files define.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Additional program arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Names of MCP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<String>,
}

/// Reads the agents; every provider's name is an agent, with or without a section.
pub(super) fn agents(
    table: &Table,
    servers: &BTreeMap<String, McpServer>,
) -> Result<BTreeMap<String, Agent>, Fault> {
    let mut agents: BTreeMap<_, _> = providers::ALL
        .iter()
        .map(|it| (it.id().to_owned(), Agent { provider: it.id().to_owned(), ..Agent::default() }))
        .collect();
    for (name, options) in table {
        let section = format!("agents.{name}");
        let mut agent: Agent = read(&section, options, AGENT)?;
        if providers::by_id(name).is_some() && agent.provider.is_empty() {
            agent.provider.clone_from(name);
        }
        check_agent(&section, name, &agent, servers)?;
        agent.is_written = true;
        agents.insert(name.clone(), agent);
    }
    Ok(agents)
}

fn check_agent(
    section: &str,
    name: &str,
    agent: &Agent,
    servers: &BTreeMap<String, McpServer>,
) -> Result<(), Fault> {
    check_name(section, name)?;
    let wrong = |option: &str, what: String| Err(invalid(format!("{section}.{option}: {what}")));
    if agent.provider.is_empty() {
        return wrong("provider", "it must be set".to_owned());
    }
    let Some(provider) = providers::by_id(&agent.provider) else {
        let ids: Vec<_> = providers::ALL.iter().map(|it| it.id().to_owned()).collect();
        return Err(unknown("provider", &agent.provider, &ids));
    };
    if providers::by_id(name).is_some() && name != provider.id() {
        return wrong("provider", format!("an agent named {name} must be one of {name}"));
    }
    if let Some(dir) = agent.directory.as_ref().filter(|dir| !dir.is_absolute()) {
        return wrong("directory", format!("`{}` is not an absolute path", dir.display()));
    }
    let flags = &agent.flags;
    if let Some(server) = flags.mcp_servers.iter().find(|name| !servers.contains_key(*name)) {
        return Err(unknown("MCP server", server, servers.keys()));
    }
    if flags.system_prompt.as_ref().is_some_and(|text| text.len() > SYSTEM_PROMPT_MAX) {
        return wrong("system_prompt", format!("it is longer than {SYSTEM_PROMPT_MAX} bytes"));
    }
    match not_accepted(provider, flags) {
        Some((option, what)) => {
            wrong(option, format!("{} {what}; `args` takes its own arguments", provider.id()))
        }
        None => Ok(()),
    }
}

/// Returns the first option that the provider does not support, with the reason.
fn not_accepted(provider: &dyn Provider, flags: &Flags) -> Option<(&'static str, String)> {
    let accepts = provider.launcher().accepts();
    let asked = [
        (flags.model.is_some(), accepts.model, "model", "takes no model"),
        (
            flags.system_prompt.is_some(),
            accepts.system_prompt,
            "system_prompt",
            "takes no system prompt",
        ),
        (flags.profile.is_some(), accepts.profile, "profile", "has no profiles"),
        (!flags.mcp_servers.is_empty(), accepts.mcp_servers, "mcp_servers", "takes no MCP servers"),
    ];
    let refused = asked.iter().find(|(is_asked, accepted, ..)| *is_asked && !accepted);
    if let Some((.., option, what)) = refused {
        return Some((*option, (*what).to_owned()));
    }
    let permission = flags.permission.filter(|it| !accepts.permissions.contains(it))?;
    Some(("permission", format!("has no mode for `{}`", permission.as_str())))
}

/// Reads the MCP servers.
pub(super) fn servers(table: &Table) -> Result<BTreeMap<String, McpServer>, Fault> {
    /// A section of the file.
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Written {
        command: Option<String>,
        args: Vec<String>,
        env: Environment,
        cwd: Option<String>,
        url: Option<String>,
        headers: Environment,
    }
    let mut servers = BTreeMap::new();
    for (name, options) in table {
        let section = format!("mcp_servers.{name}");
        check_name(&section, name)?;
        let Written { command, args, env, cwd, url, headers } = read(&section, options, SERVER)?;
        let server = match (command, url) {
            (Some(command), None) if headers.0.is_empty() => {
                McpServer::Stdio { command, args, env, cwd }
            }
            (None, Some(url)) if args.is_empty() && env.0.is_empty() && cwd.is_none() => {
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    return Err(invalid(format!(
                        "{section}.url: `{url}` is not an http or https URL"
                    )));
                }
                McpServer::Http { url, headers }
            }
            _ => {
                let what = "it has either a command (with args, env, cwd) or a url (with headers)";
                return Err(invalid(format!("{section}: {what}")));
            }
        };
        servers.insert(name.clone(), server);
    }
    Ok(servers)
}

/// Reads one section whose name the user has chosen.
fn read<T: serde::de::DeserializeOwned>(
    section: &str,
    options: &Value,
    known: &[&str],
) -> Result<T, Fault> {
    let Value::Table(table) = options else {
        return Err(invalid(format!("`{section}` is a section: write [{section}]")));
    };
    if let Some(option) = table.keys().find(|option| !known.contains(&&***option)) {
        let name = format!("{section}.{option}");
        return Err(unknown("option", &name, &qualified(section, known)));
    }
    for (option, value) in table {
        // One option at a time, so that the fault can name it.
        let one = Table::from_iter([(option.clone(), value.clone())]);
        if let Err(error) = one.try_into::<T>() {
            return Err(invalid(format!("{section}.{option}: {}", error.message())));
        }
    }
    options.clone().try_into().map_err(|error: toml::de::Error| invalid(error.message()))
}

/// Checks a name that becomes part of program arguments, tool names and variable names.
fn check_name(section: &str, name: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let starts_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_plain && name.chars().all(plain) && !name.contains("__") {
        return Ok(());
    }
    let what =
        "a name consists of letters, digits and single - and _, and starts with a letter or digit";
    Err(invalid(format!("{section}: {what}")))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn read(text: &str) -> Result<Config, Fault> {
        Config::merge(text, &Environment::default())
    }

    fn fault(text: &str) -> (String, String) {
        let fault = read(text).unwrap_err();
        (fault.message, fault.hint.unwrap_or_default())
    }

    #[test]
    fn every_provider_is_an_agent_and_its_section_changes_it() {
        let config = read("[agents.claude]\nmodel = \"opus\"").unwrap();
        let model = |name: &str| config.agents[name].flags.model.clone();
        assert_eq!(model("claude").as_deref(), Some("opus"));
        for provider in providers::ALL {
            assert_eq!(config.agents[provider.id()].provider, provider.id());
        }
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let helper = "[agents.helper]\nprovider = \"claude\"\n";
        let cases = [
            ("modle = \"x\"", "unknown option `agents.helper.modle`", "agents.helper.model"),
            ("mcp_servers = [\"memry\"]", "unknown MCP server `memry`", "memory"),
        ];
        let server = "[mcp_servers.memory]\ncommand = \"m\"\n";
        for (line, message, nearest) in cases {
            let (said, hint) = fault(&format!("{server}{helper}{line}"));
            assert_eq!((&*said, &*hint), (message, &*format!("did you mean `{nearest}`?")));
        }
        let (said, hint) = fault("[agents.helper]\nprovider = \"cluade\"");
        assert_eq!(said, "unknown provider `cluade`");
        assert_eq!(hint, "did you mean `claude`?");
        let (said, _) = fault("[mcp_servers.memory]\ncomand = \"m\"");
        assert_eq!(said, "unknown option `mcp_servers.memory.comand`");
    }

    #[test]
    fn invalid_sections_are_refused_by_name() {
        let cases = [
            ("[agents.a]\nmodel = \"x\"", "agents.a.provider: it must be set"),
            ("[agents.codex]\nprovider = \"claude\"", "must be one of codex"),
            ("[agents.a]\nprovider = \"echo\"\nmodel = \"x\"", "echo takes no model"),
            ("[agents.a]\nprovider = \"gemini\"\nprofile = \"x\"", "gemini has no profiles"),
            ("[agents.echo]\npermission = \"all\"", "echo has no mode for `all`"),
            ("[agents.claude]\npermission = \"yolo\"", "agents.claude.permission: unknown variant"),
            ("[agents.claude]\ndirectory = \"here\"", "`here` is not an absolute path"),
            ("[agents.claude]\nargs = 1", "agents.claude.args: invalid type"),
            ("[agents.\"a b\"]\nprovider = \"echo\"", "a name consists of"),
            ("agents.a = 1", "`agents.a` is a section"),
            ("[mcp_servers.m]\nurl = \"ftp://x\"", "is not an http or https URL"),
            ("[mcp_servers.m]\nurl = \"http://x\"\ncommand = \"x\"", "either a command"),
            ("[mcp_servers.m]", "either a command"),
        ];
        for (text, part) in cases {
            let (said, _) = fault(text);
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = read(
            "[mcp_servers.a]\ncommand = \"a\"\nenv = { T = \"hunter2\" }\n\
             [mcp_servers.b]\nurl = \"https://b\"\nheaders = { T = \"hunter2\" }\n\
             [agents.claude]\nenv = { T = \"hunter2\" }",
        );
        assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
    }

    #[test]
    fn stored_flags_are_read_back_even_if_empty() {
        let flags = Flags { model: Some("m".to_owned()), ..Flags::default() };
        let text = serde_json::to_string(&flags).unwrap();
        assert_eq!(text, r#"{"model":"m"}"#);
        assert_eq!(serde_json::from_str::<Flags>(&text).unwrap(), flags);
        assert_eq!(serde_json::from_str::<Flags>("[]").unwrap(), Flags::default());
    }
}
