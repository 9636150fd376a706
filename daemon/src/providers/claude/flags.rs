//! Launch options as Claude Code's arguments and its file of MCP servers.

use serde_json::{Map, Value, json};
use sessd_proto::Environment;

use super::settings;
use crate::providers::{Accepts, Launch, LaunchFile, McpServer, Permission, Version};

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: true,
    mcp_servers: true,
};

const MCP_FILE: &str = "mcp.json";

/// The version in which the mode `default` became `manual`, and in which a run without a terminal
/// can be told that no program answers its questions.
const MANUAL: Version = Version(2, 1, 332);

/// Skips every question. The CLI refuses this to root outside a sandbox.
const SKIP: &str = "--dangerously-skip-permissions";

pub(super) fn arguments(launch: &Launch, cwd: &str) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend(launch.permission.map(|permission| {
        match permission {
            Permission::Ask if has(launch.version, MANUAL) => "--permission-mode=manual",
            Permission::Ask => "--permission-mode=default",
            Permission::Edit => "--permission-mode=acceptEdits",
            Permission::All => SKIP,
        }
        .to_owned()
    }));
    let prompt = launch.system_prompt.as_ref();
    args.extend(prompt.map(|text| format!("--append-system-prompt={text}")));
    args.extend(launch.profile.as_ref().map(|profile| format!("--agent={profile}")));
    if !launch.mcp_servers.is_empty() {
        args.push(format!("--mcp-config={}", launch.file(MCP_FILE).display()));
        args.push("--strict-mcp-config".to_owned());
    }
    args.extend(settings::arguments(launch, cwd));
    args
}

/// Returns the arguments of a run without a terminal: it denies what it would have to ask for.
pub(super) fn headless(launch: &Launch) -> Option<String> {
    has(launch.version, MANUAL).then(|| "--permission-prompts=none".to_owned())
}

/// True if the program is known to have an option. An older one would refuse to start.
fn has(program: Option<Version>, since: Version) -> bool {
    program.is_some_and(|version| version >= since)
}

pub(super) fn files(launch: &Launch, cwd: &str) -> Vec<LaunchFile> {
    let mut files: Vec<_> = settings::launch_file(launch, cwd).into_iter().collect();
    if !launch.mcp_servers.is_empty() {
        let servers = launch.mcp_servers.iter().map(|(name, server)| (name.clone(), form(server)));
        let text = json!({ "mcpServers": servers.collect::<Map<_, _>>() }).to_string();
        files.push(LaunchFile::Text(MCP_FILE.to_owned(), text));
    }
    files
}

fn form(server: &McpServer) -> Value {
    match server {
        McpServer::Stdio { env, .. } => {
            // The CLI starts every server in its own directory.
            let (command, args) = server.command_line();
            json!({ "type": "stdio", "command": command, "args": args, "env": env })
        }
        McpServer::Http { url, headers } => {
            json!({ "type": "http", "url": url, "headers": headers })
        }
    }
}

/// Returns why the CLI would exit at once.
pub(super) fn refuses(launch: &Launch, env: &Environment, is_root: bool) -> Option<String> {
    let skips =
        launch.permission == Some(Permission::All) || launch.args.iter().any(|it| it == SKIP);
    let refused = skips && is_root && env.get("IS_SANDBOX") != Some("1");
    refused.then(|| {
        "claude does not let root skip permissions, unless the agent's env has IS_SANDBOX = \"1\""
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_an_older_program_lacks_are_left_out() {
        let ask = |version: Option<Version>| {
            let launch = Launch { permission: Some(Permission::Ask), version, ..Launch::default() };
            (arguments(&launch, "/").swap_remove(0), headless(&launch))
        };
        let newest = ask(Some(Version(2, 1, 332)));
        assert_eq!(newest.0, "--permission-mode=manual");
        assert_eq!(newest.1.as_deref(), Some("--permission-prompts=none"));
        for version in [None, Some(Version(2, 1, 197))] {
            assert_eq!(ask(version), ("--permission-mode=default".to_owned(), None));
        }
    }

    #[test]
    fn trap_14_root_may_skip_permissions_only_in_a_sandbox() {
        let all = Launch { permission: Some(Permission::All), ..Launch::default() };
        let by_hand = Launch { args: vec![SKIP.to_owned()], ..Launch::default() };
        let edit = Launch { permission: Some(Permission::Edit), ..Launch::default() };
        let none = Environment::default();
        let sandbox = Environment([("IS_SANDBOX".to_owned(), "1".to_owned())].into());
        for launch in [&all, &by_hand] {
            assert!(refuses(launch, &none, true).is_some_and(|why| why.contains("IS_SANDBOX")));
            assert_eq!(refuses(launch, &sandbox, true), None);
            assert_eq!(refuses(launch, &none, false), None);
        }
        assert_eq!(refuses(&edit, &none, true), None);
    }
}
