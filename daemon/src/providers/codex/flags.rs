//! Launch options as overrides of Codex's configuration. Secrets in them go through the
//! environment.

use std::collections::BTreeMap;

use sessd_proto::{Environment, LaunchPlan};
use toml::{Table, Value};

use crate::providers::{Accepts, Launch, McpServer, Permission};

pub(super) const ACCEPTS: Accepts = Accepts {
    model: true,
    permissions: &[Permission::Ask, Permission::Edit, Permission::All],
    system_prompt: true,
    profile: true,
    mcp_servers: true,
};

/// Returns the argument for the profile. It must precede the verb `resume` or `fork` of `exec`,
/// which does not take it.
pub(super) fn profile(launch: &Launch) -> impl Iterator<Item = String> {
    launch.profile.iter().map(|profile| format!("--profile={profile}"))
}

/// Returns the arguments for everything but the profile.
pub(super) fn arguments(launch: &Launch) -> Vec<String> {
    let mut args = Vec::new();
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    let mut set = |key: &str, value: Value| args.push(format!("--config={key}={value}"));
    if let Some(permission) = launch.permission {
        let (sandbox, approval) = match permission {
            Permission::Ask => ("read-only", "on-request"),
            Permission::Edit => ("workspace-write", "on-request"),
            Permission::All => ("danger-full-access", "never"),
        };
        set("sandbox_mode", sandbox.into());
        set("approval_policy", approval.into());
    }
    if let Some(text) = &launch.system_prompt {
        set("developer_instructions", text.as_str().into());
    }
    for (name, server) in &launch.mcp_servers {
        set(&format!("mcp_servers.{name}"), form(name, server));
    }
    args.extend(launch.args.clone());
    args
}

fn form(name: &str, server: &McpServer) -> Value {
    let mut table: Table = match server {
        McpServer::Stdio { command, args, env, cwd } => {
            let list =
                |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::from).collect());
            let mut table = Table::new();
            table.insert("command".to_owned(), command.as_str().into());
            table.insert("args".to_owned(), list(args.clone()));
            table.insert("env_vars".to_owned(), list(env.0.keys().cloned().collect()));
            table.extend(cwd.as_ref().map(|cwd| ("cwd".to_owned(), cwd.as_str().into())));
            table
        }
        McpServer::Http { url, headers } => {
            let names = headers.0.keys().enumerate();
            let names = names.map(|(i, header)| (header.clone(), variable(name, i).into()));
            [
                ("url".to_owned(), url.as_str().into()),
                ("env_http_headers".to_owned(), Value::Table(names.collect())),
            ]
            .into_iter()
            .collect()
        }
    };
    // It is merged with a server of that name in the user's settings, which may be disabled.
    table.insert("enabled".to_owned(), true.into());
    Value::Table(table)
}

/// Returns the name of the variable with the value of a header.
fn variable(server: &str, header: usize) -> String {
    format!("SESSD_MCP_{}_{header}", server.to_uppercase().replace('-', "_"))
}

/// Adds the variables that [`form`] names.
pub(super) fn environment(launch: &Launch, plan: &mut LaunchPlan) {
    for (name, server) in &launch.mcp_servers {
        let variables: Vec<_> = match server {
            McpServer::Stdio { env, .. } => env.0.clone().into_iter().collect(),
            McpServer::Http { headers, .. } => {
                let values = headers.0.values().enumerate();
                values.map(|(i, value)| (variable(name, i), value.clone())).collect()
            }
        };
        plan.env.extend(variables.into_iter().map(|(name, value)| (name, Some(value))));
    }
}

/// Returns why the servers' variables cannot be set: Codex passes them from its own environment, so
/// they must not contradict it or each other.
pub(super) fn refuses(launch: &Launch, own: &[&str], env: &Environment) -> Option<String> {
    let mut seen = BTreeMap::new();
    for (server, form) in &launch.mcp_servers {
        let McpServer::Stdio { env: variables, .. } = form else { continue };
        for (name, value) in &variables.0 {
            let others = seen.insert(name, value).is_some_and(|other| other != value);
            let is_own = own.contains(&&**name) || matches!(&**name, "HOME" | "PATH");
            if others || is_own && env.0.get(name) != Some(value) {
                return Some(format!(
                    "codex cannot set {name} for the MCP server {server} alone; start the server \
                     with a script that sets it"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pairs: &[(&str, &str)]) -> McpServer {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let args = vec!["a \"b\"".to_owned()];
        McpServer::Stdio { command: "m".into(), args, env: Environment(env.collect()), cwd: None }
    }

    fn launch(servers: &[(&str, McpServer)]) -> Launch {
        let servers = servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone()));
        Launch { mcp_servers: servers.collect(), ..Launch::default() }
    }

    #[test]
    fn secrets_of_servers_are_not_arguments() {
        let headers = Environment([("Authorization".to_owned(), "hunter2".to_owned())].into());
        let url = "https://x".to_owned();
        let launch = launch(&[
            ("memory", server(&[("TOKEN", "hunter2")])),
            ("my-tickets", McpServer::Http { url, headers }),
        ]);
        assert_eq!(
            arguments(&launch),
            [
                "--config=mcp_servers.memory={ \
                 args = ['a \"b\"'], command = \"m\", enabled = true, env_vars = [\"TOKEN\"] }",
                "--config=mcp_servers.my-tickets={ enabled = true, env_http_headers = \
                 { Authorization = \"SESSD_MCP_MY_TICKETS_0\" }, url = \"https://x\" }",
            ]
        );
        let mut plan = LaunchPlan::default();
        environment(&launch, &mut plan);
        let secret = Some("hunter2".to_owned());
        assert_eq!(plan.env["TOKEN"], secret);
        assert_eq!(plan.env["SESSD_MCP_MY_TICKETS_0"], secret);
    }

    #[test]
    fn servers_with_contradicting_variables_are_refused() {
        let env = Environment([("PATH".to_owned(), "/bin".to_owned())].into());
        let refused = |servers: &[(&str, McpServer)]| {
            refuses(&launch(servers), &["OPENAI_API_KEY"], &env).is_some()
        };
        let (one, other) = (server(&[("T", "1")]), server(&[("T", "2")]));
        assert!(!refused(&[("a", one.clone()), ("b", one.clone())]));
        assert!(refused(&[("a", one), ("b", other)]));
        assert!(refused(&[("a", server(&[("OPENAI_API_KEY", "x")]))]));
        assert!(refused(&[("a", server(&[("PATH", "/x")]))]));
        assert!(!refused(&[("a", server(&[("PATH", "/bin")]))]));
    }
}
