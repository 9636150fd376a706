//! What an agent asks for, as Gemini CLI's arguments and a home of ours.
//!
//! It reads MCP servers and its memory from its home only: settings of the system must belong to
//! root, like every folder above them. So such a launch gets a home of its own, in which all is
//! linked to the session's home but the settings and the memory. The CLI renames a new list of
//! projects over the link; it finds what it has not listed by the markers in its store.

use std::fs;

use serde_json::{Map, Value, json};
use sessd_proto::LaunchPlan;

use super::super::{Accepts, Home, Launch, LaunchFile, McpServer, Permission};
use super::settings;

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: false,
    mcp_servers: true,
};

/// The folder whose `.gemini` is the home.
const OURS: &str = "home";

const SETTINGS: &str = "settings.json";
/// Where the CLI keeps what it writes about sessions, and what the user allows it for good.
const STORES: &[&str] = &["history", "tmp", POLICIES];
const MEMORY: &str = "GEMINI.md";
/// Where the user's rules are by default, and ours.
const POLICIES: &str = "policies";
const POLICY: &str = "policy.toml";

pub(super) fn arguments(launch: &Launch) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend(launch.permission.map(|permission| {
        let mode = match permission {
            Permission::Ask => "default",
            Permission::Edit => "auto_edit",
            Permission::All => "yolo",
        };
        format!("--approval-mode={mode}")
    }));
    // Projects and extensions may bring others. It takes this for leave to call their tools too,
    // which the policy takes back.
    let names = launch.mcp_servers.keys();
    args.extend(names.map(|name| format!("--allowed-mcp-server-names={name}")));
    args.extend(launch.args.clone());
    args
}

fn needs_a_home(launch: &Launch) -> bool {
    !launch.mcp_servers.is_empty() || launch.system_prompt.is_some()
}

pub(super) fn environment(launch: &Launch, plan: &mut LaunchPlan) {
    if needs_a_home(launch) {
        let ours = launch.file(OURS).to_string_lossy().into_owned();
        plan.env.insert("GEMINI_CLI_HOME".to_owned(), Some(ours));
    }
}

pub(super) fn files(home: &Home, launch: &Launch) -> Vec<LaunchFile> {
    if !needs_a_home(launch) {
        return Vec::new();
    }
    let name = |file: &str| format!("{OURS}/.gemini/{file}");
    let users = home.path.join(SETTINGS);
    let mut files = vec![match settings::read(&users).filter(Value::is_object) {
        Some(settings) => LaunchFile::Text(name(SETTINGS), with_ours(home, settings, launch)),
        // The CLI says what is wrong with them.
        None => LaunchFile::Link(name(SETTINGS), users),
    }];
    let own = |file: &str| file == SETTINGS || (file == MEMORY && launch.system_prompt.is_some());
    if !launch.mcp_servers.is_empty() {
        files.push(LaunchFile::Text(POLICY.to_owned(), policy(launch)));
    }
    if let Some(text) = &launch.system_prompt {
        let memory = fs::read_to_string(home.path.join(MEMORY)).unwrap_or_default();
        files.push(LaunchFile::Text(name(MEMORY), format!("{memory}\n\n{text}\n")));
    }
    let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = entries.filter(|it| !own(it) && !STORES.contains(&&**it)).collect();
    names.sort();
    files.extend(names.iter().map(|it| LaunchFile::Link(name(it), home.path.join(it))));
    // A first session must not begin in a store of its own, nor be allowed what no other is.
    files.extend(STORES.iter().map(|it| LaunchFile::Folder(name(it), home.path.join(it))));
    files
}

/// To name a server is no leave to call its tools without asking: only what weighs more gives
/// that, like `--allowed-tools`, or the mode.
fn policy(launch: &Launch) -> String {
    let rule = |name: &String| {
        format!(
            "[[rule]]\ntoolName = \"*\"\nmcpName = \"{name}\"\ndecision = \"ask_user\"\n\
             priority = 150\nmodes = [\"default\", \"autoEdit\"]\n"
        )
    };
    launch.mcp_servers.keys().map(rule).collect()
}

/// The user's settings with our servers in the place of theirs.
fn with_ours(home: &Home, mut settings: Value, launch: &Launch) -> String {
    if !launch.mcp_servers.is_empty() {
        // Those that are named take the place of the default.
        let named = settings.get("policyPaths").and_then(Value::as_array).cloned();
        let mut policies = named
            .filter(|named| !named.is_empty())
            .unwrap_or_else(|| vec![json!(home.path.join(POLICIES))]);
        policies.push(json!(launch.file(POLICY)));
        settings["policyPaths"] = policies.into();
        let servers = launch.mcp_servers.iter().map(|(name, server)| (name.clone(), form(server)));
        settings["mcpServers"] = Value::Object(servers.collect::<Map<_, _>>());
    }
    let names = settings.pointer("/context/fileName").cloned();
    if let (Some(_), Some(names)) = (&launch.system_prompt, names) {
        let mut all = names.as_array().cloned().unwrap_or_else(|| vec![names]);
        all.push(MEMORY.into());
        settings["context"]["fileName"] = all.into();
    }
    settings.to_string()
}

fn form(server: &McpServer) -> Value {
    match server {
        McpServer::Stdio { command, args, env, cwd } => {
            let mut form = json!({ "command": command, "args": args, "env": env });
            // Nothing is not taken for a directory.
            if let Some(cwd) = cwd {
                form["cwd"] = cwd.as_str().into();
            }
            form
        }
        McpServer::Http { url, headers } => json!({ "httpUrl": url, "headers": headers }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_no_object_are_left_to_the_cli() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let server = McpServer::Http { url: String::new(), headers: Default::default() };
        let launch = Launch { mcp_servers: [("x".to_owned(), server)].into(), ..Launch::default() };
        for odd in ["[]", "7", "null"] {
            fs::write(folder.path().join(SETTINGS), odd).unwrap();
            let link = LaunchFile::Link(
                format!("{OURS}/.gemini/{SETTINGS}"),
                folder.path().join(SETTINGS),
            );
            assert!(files(&home, &launch).contains(&link), "{odd}");
        }
    }

    #[test]
    fn the_home_of_a_launch_is_the_users_but_for_settings_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let users = "{ // mine\n\"ui\": {\"theme\": \"x\"}, \"mcpServers\": {\"mine\": {}},\
                     \"context\": {\"fileName\": \"AGENTS.md\"}}";
        fs::write(folder.path().join(SETTINGS), users).unwrap();
        fs::write(folder.path().join(MEMORY), "Use tabs.").unwrap();
        fs::write(folder.path().join("projects.json"), "{}").unwrap();
        let url = "https://x".to_owned();
        let server = McpServer::Http { url, headers: Default::default() };
        let launch = Launch {
            system_prompt: Some("Be brief.".to_owned()),
            mcp_servers: [("tickets".to_owned(), server)].into(),
            ..Launch::default()
        };
        assert_eq!(files(&home, &Launch::default()), []);
        let name = |file: &str| format!("home/.gemini/{file}");
        let store = |file: &str| LaunchFile::Folder(name(file), folder.path().join(file));
        let settings = json!({
            "ui": {"theme": "x"},
            "mcpServers": {"tickets": {"httpUrl": "https://x", "headers": {}}},
            "context": {"fileName": ["AGENTS.md", "GEMINI.md"]},
            "policyPaths": [folder.path().join("policies"), ".policy.toml"],
        });
        let policy = "[[rule]]\ntoolName = \"*\"\nmcpName = \"tickets\"\ndecision = \"ask_user\"\n\
                      priority = 150\nmodes = [\"default\", \"autoEdit\"]\n";
        assert_eq!(
            files(&home, &launch),
            [
                LaunchFile::Text(name(SETTINGS), settings.to_string()),
                LaunchFile::Text("policy.toml".to_owned(), policy.to_owned()),
                LaunchFile::Text(name(MEMORY), "Use tabs.\n\nBe brief.\n".to_owned()),
                LaunchFile::Link(name("projects.json"), folder.path().join("projects.json")),
                store("history"),
                store("tmp"),
                store("policies"),
            ]
        );
    }
}
