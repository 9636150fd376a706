//! Launch options as arguments, variables and files of the family.

use serde_json::{Map, Value, json};
use sessd_proto::LaunchPlan;

use crate::providers::{Accepts, Launch, LaunchFile, McpServer, Permission};

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: true,
    mcp_servers: true,
};

/// The file with our settings. It overrides the user's own, and the project's override it.
const CONFIG: &str = "config.json";

/// The file with the text to append to the system prompt.
const INSTRUCTIONS: &str = "instructions.md";

/// The tools that only read.
const READING: [&str; 7] = ["read", "glob", "grep", "list", "lsp", "skill", "todowrite"];

pub(super) fn arguments(launch: &Launch) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend(launch.profile.as_ref().map(|profile| format!("--agent={profile}")));
    if launch.permission == Some(Permission::All) {
        args.push("--auto".to_owned());
    }
    args.extend(launch.args.clone());
    args
}

/// Adds the variables of a brand: the path of our settings, and the permissions.
pub(super) fn environment(launch: &Launch, prefix: &str, plan: &mut LaunchPlan) {
    let mut set = |name: &str, value: String| {
        plan.env.insert(format!("{prefix}_{name}"), Some(value));
    };
    if !files(launch).is_empty() {
        set("CONFIG", launch.file(CONFIG).to_string_lossy().into_owned());
    }
    // Overrides all settings, so that no project can permit itself more.
    if let Some(permission) = launch.permission {
        set("PERMISSION", rules(permission).to_string());
    }
}

/// Returns the permission rules. The last matching one decides, so the one for everything is first.
fn rules(permission: Permission) -> Value {
    let everything = if permission == Permission::All { "allow" } else { "ask" };
    let mut rules = Map::new();
    rules.insert("*".to_owned(), everything.into());
    let mut allow = |name: &str| rules.insert(name.to_owned(), "allow".into());
    READING.iter().for_each(|name| drop(allow(name)));
    if permission == Permission::Edit {
        allow("edit");
    }
    Value::Object(rules)
}

pub(super) fn files(launch: &Launch) -> Vec<LaunchFile> {
    let mut settings = Map::new();
    let mut files = Vec::new();
    if let Some(text) = &launch.system_prompt {
        settings.insert("instructions".to_owned(), json!([launch.file(INSTRUCTIONS)]));
        files.push(LaunchFile::Text(INSTRUCTIONS.to_owned(), text.clone()));
    }
    if !launch.mcp_servers.is_empty() {
        let servers = launch.mcp_servers.iter().map(|(name, server)| (name.clone(), form(server)));
        settings.insert("mcp".to_owned(), Value::Object(servers.collect()));
    }
    if !settings.is_empty() {
        let text = Value::Object(settings).to_string();
        files.push(LaunchFile::Text(CONFIG.to_owned(), text));
    }
    files
}

pub(super) fn form(server: &McpServer) -> Value {
    match server {
        McpServer::Stdio { env, .. } => {
            // The CLI starts every server in its own directory.
            let (command, args) = server.command_line();
            let words: Vec<_> = [command].into_iter().chain(args).collect();
            json!({ "type": "local", "command": words, "environment": env, "enabled": true })
        }
        McpServer::Http { url, headers } => {
            json!({ "type": "remote", "url": url, "headers": headers, "enabled": true })
        }
    }
}
