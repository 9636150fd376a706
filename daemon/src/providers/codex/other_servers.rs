//! Switches off the MCP servers of the user's and the project's settings that a launch does not
//! name: Codex merges all of them.

use std::path::Path;

use sessd_proto::LaunchPlan;
use toml::{Table, Value};

use crate::providers::{Home, Launch, file};

pub(super) const SETTINGS: &str = "config.toml";

/// The folder with the settings of all users.
pub(super) const SYSTEM: &str = "/etc/codex";

/// The prefix of the arguments with the servers of a launch. An override of the whole table must
/// precede them: they then complete it.
const OURS: &str = "--config=mcp_servers.";

pub(super) fn switch_off(home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
    let Some(first) = plan.args.iter().position(|arg| arg.starts_with(OURS)) else { return };
    let mut files = vec![Path::new(SYSTEM).join(SETTINGS), home.path.join(SETTINGS)];
    let profile = launch.profile.iter();
    files.extend(profile.map(|name| home.path.join(format!("{name}.{SETTINGS}"))));
    let folders = Path::new(&plan.cwd).ancestors();
    files.extend(folders.map(|folder| folder.join(".codex").join(SETTINGS)));
    let mut others = Table::new();
    for (name, server) in files.iter().flat_map(|file| servers(file)) {
        if !launch.mcp_servers.contains_key(&name) {
            others.entry(name).or_insert_with(|| switched_off(&server));
        }
    }
    if !others.is_empty() {
        plan.args.insert(first, format!("--config=mcp_servers={}", Value::Table(others)));
    }
}

fn servers(settings: &Path) -> Table {
    let text = file::settings(settings).unwrap_or_default();
    let mut settings: Table = text.parse().unwrap_or_default();
    match settings.remove("mcp_servers") {
        Some(Value::Table(servers)) => servers,
        _ => Table::new(),
    }
}

/// Returns an entry that disables a server. It must be complete, because an untrusted project adds
/// nothing to it, and of the same kind, because a server of both kinds is refused. It does not
/// repeat the real address, which may hold a secret.
fn switched_off(server: &Value) -> Value {
    let (kind, placeholder) = match server.get("url") {
        Some(_) => ("url", "http://localhost"),
        None => ("command", "true"),
    };
    let mut form = Table::new();
    form.insert(kind.to_owned(), placeholder.into());
    form.insert("enabled".to_owned(), false.into());
    Value::Table(form)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::providers::McpServer;

    #[test]
    fn servers_of_user_profile_and_project_are_switched_off() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().join("home"), env: [].into() };
        let project = folder.path().join("project");
        for (file, text) in [
            (
                "home/config.toml",
                "[mcp_servers.mine]\ncommand = 'x'\n[mcp_servers.\"a.b\"]\nurl = 'u'",
            ),
            ("home/r.config.toml", "[mcp_servers.more]\ncommand = 'x'"),
            (
                "project/.codex/config.toml",
                "[mcp_servers.memory]\ncommand = 'x'\n[mcp_servers.its]",
            ),
        ] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let server = McpServer::Http { url: String::new(), headers: Default::default() };
        let launch = Launch {
            profile: Some("r".to_owned()),
            mcp_servers: [("memory".to_owned(), server)].into(),
            ..Launch::default()
        };
        let cwd = project.join("below").to_string_lossy().into_owned();
        let args = ["exec", "--config=mcp_servers.memory={}", "-"].map(str::to_owned);
        let mut plan = LaunchPlan { args: args.to_vec(), cwd, ..LaunchPlan::default() };
        switch_off(&home, &launch, &mut plan);
        let off = "{ command = \"true\", enabled = false }";
        let wanted = format!(
            "--config=mcp_servers={{ \"a.b\" = {{ enabled = false, url = \"http://localhost\" }}, \
             its = {off}, mine = {off}, more = {off} }}"
        );
        assert_eq!(plan.args, ["exec", &*wanted, &*args[1], "-"]);
        let mut plain = LaunchPlan { args: vec!["exec".to_owned()], ..LaunchPlan::default() };
        switch_off(&home, &Launch::default(), &mut plain);
        assert_eq!(plain.args, ["exec"], "without servers of its own the user's stay");
    }
}
