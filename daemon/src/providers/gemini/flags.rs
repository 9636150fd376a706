//! Launch options as Gemini CLI's arguments and as a home of our own.
//!
//! The CLI reads MCP servers and its memory from its home only; a file of system settings would
//! have to belong to root, like every folder above it. So such a launch gets a home of its own,
//! with links to everything in the session's home except the settings and the memory. The CLI
//! replaces the link to the list of projects by a new list; it finds directories that are not in
//! the list by the markers in its store.
//!
//! The settings of such a home switch off the deletion of old chats. A launch gets one for that
//! alone while any chat shares its ending with another file: the CLI makes a stub at each start
//! and deletes then, so that our own run would delete the others of that group.

use std::fs;

use serde_json::{Map, Value, json};
use sessd_proto::LaunchPlan;

use super::{groups, settings};
use crate::providers::{Accepts, Home, Launch, LaunchFile, McpServer, Permission, file};

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: false,
    mcp_servers: true,
};

/// The folder that contains our home, `.gemini`.
const OURS: &str = "home";

const SETTINGS: &str = "settings.json";
/// The folders with everything the CLI writes about sessions, and with the user's lasting
/// permissions.
const STORES: &[&str] = &["history", "tmp", POLICIES];
const MEMORY: &str = "GEMINI.md";
/// The user's rules by default, and ours.
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
    // Excludes the servers of projects and extensions. The CLI also takes it as permission to call
    // the tools of these, which the policy revokes.
    let names = launch.mcp_servers.keys();
    args.extend(names.map(|name| format!("--allowed-mcp-server-names={name}")));
    args.extend(launch.args.clone());
    args
}

fn needs_a_home(home: &Home, launch: &Launch) -> bool {
    !launch.mcp_servers.is_empty() || launch.system_prompt.is_some() || groups::are_in(home)
}

pub(super) fn environment(home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
    if needs_a_home(home, launch) {
        let ours = launch.file(OURS).to_string_lossy().into_owned();
        plan.env.insert("GEMINI_CLI_HOME".to_owned(), Some(ours));
    }
}

pub(super) fn files(home: &Home, launch: &Launch) -> Vec<LaunchFile> {
    if !needs_a_home(home, launch) {
        return Vec::new();
    }
    let name = |file: &str| format!("{OURS}/.gemini/{file}");
    let users = home.path.join(SETTINGS);
    let mut files = vec![match settings::read(&users).filter(Value::is_object) {
        Some(settings) => LaunchFile::Text(name(SETTINGS), with_ours(home, settings, launch)),
        // The CLI reports what is wrong with them.
        None => LaunchFile::Link(name(SETTINGS), users),
    }];
    let own = |file: &str| file == SETTINGS || (file == MEMORY && launch.system_prompt.is_some());
    if !launch.mcp_servers.is_empty() {
        files.push(LaunchFile::Text(POLICY.to_owned(), policy(launch)));
    }
    if let Some(text) = &launch.system_prompt {
        let memory = file::settings(&home.path.join(MEMORY)).unwrap_or_default();
        files.push(LaunchFile::Text(name(MEMORY), format!("{memory}\n\n{text}\n")));
    }
    let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
    let entries = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = entries.filter(|it| !own(it) && !STORES.contains(&&**it)).collect();
    names.sort();
    files.extend(names.iter().map(|it| LaunchFile::Link(name(it), home.path.join(it))));
    // Without these a first session would start in a store, and with permissions, of its own.
    files.extend(STORES.iter().map(|it| LaunchFile::Folder(name(it), home.path.join(it))));
    files
}

/// Returns rules that ask before every tool of our servers: naming a server is not permission to
/// call its tools. Only a rule of higher priority is, from `--allowed-tools` or the mode.
fn policy(launch: &Launch) -> String {
    let rule = |name: &String| {
        format!(
            "[[rule]]\ntoolName = \"*\"\nmcpName = \"{name}\"\ndecision = \"ask_user\"\n\
             priority = 150\nmodes = [\"default\", \"autoEdit\"]\n"
        )
    };
    launch.mcp_servers.keys().map(rule).collect()
}

/// Returns the user's settings with our servers in place of theirs.
fn with_ours(home: &Home, mut settings: Value, launch: &Launch) -> String {
    if !launch.mcp_servers.is_empty() {
        // Paths in the settings replace the default one.
        let named = settings.get("policyPaths").and_then(Value::as_array).cloned();
        let mut policies = named
            .filter(|named| !named.is_empty())
            .unwrap_or_else(|| vec![json!(home.path.join(POLICIES))]);
        policies.push(json!(launch.file(POLICY)));
        settings["policyPaths"] = policies.into();
        let servers = launch.mcp_servers.iter().map(|(name, server)| (name.clone(), form(server)));
        settings["mcpServers"] = Value::Object(servers.collect::<Map<_, _>>());
    }
    if let Some(general) = object_at(&mut settings, "general")
        && let Some(retention) = object_at(general, "sessionRetention")
    {
        retention["enabled"] = false.into();
    }
    let names = settings.pointer("/context/fileName").cloned();
    if let (Some(_), Some(names)) = (&launch.system_prompt, names) {
        let mut all = names.as_array().cloned().unwrap_or_else(|| vec![names]);
        all.push(MEMORY.into());
        settings["context"]["fileName"] = all.into();
    }
    settings.to_string()
}

/// Returns an object in an object, made if it is missing; `None` if something else is there.
fn object_at<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let found = parent.as_object_mut()?.entry(name).or_insert_with(|| json!({}));
    found.is_object().then_some(found)
}

fn form(server: &McpServer) -> Value {
    match server {
        McpServer::Stdio { command, args, env, cwd } => {
            let mut form = json!({ "command": command, "args": args, "env": env });
            // The CLI does not accept null as a directory.
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
    fn launch_beside_a_group_of_chats_deletes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let chats = folder.path().join("tmp/app/chats");
        fs::create_dir_all(&chats).unwrap();
        for (name, count) in [("session-1-aaaaaaaa.jsonl", 0), ("session-2-aaaaaaaa.jsonl", 4)] {
            fs::write(chats.join(name), "").unwrap();
            let files = files(&home, &Launch::default());
            assert_eq!(files.len(), count, "{name}");
        }
        let mut plan = LaunchPlan::default();
        environment(&home, &Launch::default(), &mut plan);
        assert!(plan.env.contains_key("GEMINI_CLI_HOME"));
        let off = r#"{"general":{"sessionRetention":{"enabled":false}}}"#.to_owned();
        let written = &files(&home, &Launch::default())[0];
        assert_eq!(*written, LaunchFile::Text(format!("{OURS}/.gemini/{SETTINGS}"), off));
    }

    #[test]
    fn settings_that_are_not_an_object_are_linked_unchanged() {
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
    fn home_of_a_launch_links_all_but_settings_and_memory() {
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
            "general": {"sessionRetention": {"enabled": false}},
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
