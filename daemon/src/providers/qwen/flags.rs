//! Launch options as Qwen Code's arguments and its file of MCP servers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::providers::{Accepts, Launch, LaunchFile, McpServer, Permission};

/// The file that `--mcp-config` names.
const SERVERS: &str = "mcp.json";

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: false,
    mcp_servers: true,
};

pub(super) fn arguments(launch: &Launch) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend(launch.permission.map(|it| format!("--approval-mode={}", mode(it))));
    let told = launch.system_prompt.as_ref();
    args.extend(told.map(|text| format!("--append-system-prompt={text}")));
    if !launch.mcp_servers.is_empty() {
        args.push(format!("--mcp-config={}", launch.file(SERVERS).display()));
        // Excludes the servers of its settings.
        let names = launch.mcp_servers.keys();
        args.extend(names.map(|name| format!("--allowed-mcp-server-names={name}")));
    }
    args.extend(launch.args.clone());
    args
}

pub(super) fn files(launch: &Launch) -> Vec<LaunchFile> {
    if launch.mcp_servers.is_empty() {
        return Vec::new();
    }
    let servers: BTreeMap<_, _> =
        launch.mcp_servers.iter().map(|(name, server)| (name, form(server))).collect();
    let text = json!({ "mcpServers": servers }).to_string();
    vec![LaunchFile::Text(SERVERS.to_owned(), text)]
}

fn mode(permission: Permission) -> &'static str {
    match permission {
        Permission::Ask => "default",
        Permission::Edit => "auto-edit",
        Permission::All => "yolo",
    }
}

fn form(server: &McpServer) -> Value {
    match server {
        McpServer::Stdio { command, args, env, cwd } => {
            let mut form = json!({ "command": command, "args": args, "env": env.0 });
            // The CLI does not accept null as a directory.
            if let Some(cwd) = cwd {
                form["cwd"] = cwd.as_str().into();
            }
            form
        }
        McpServer::Http { url, headers } => json!({ "httpUrl": url, "headers": headers.0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_without_a_directory_has_no_cwd_key() {
        let server = |cwd: Option<&str>| McpServer::Stdio {
            command: "x".to_owned(),
            args: Vec::new(),
            env: Default::default(),
            cwd: cwd.map(str::to_owned),
        };
        assert_eq!(form(&server(None)).get("cwd"), None);
        assert_eq!(form(&server(Some("/w")))["cwd"], "/w");
    }
}
