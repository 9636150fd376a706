//! Switches off the MCP servers of the user's and the project's settings that a launch does not
//! name: the family merges all of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sessd_proto::{Environment, LaunchPlan};

use super::Brand;
use super::flags::form;
use crate::providers::{Launch, file, jsonc};

/// Folders with settings, in a project or in the user's home directory.
const FOLDERS: [&str; 4] = ["", ".opencode", ".kilo", ".kilocode"];

/// The keys of the servers in the settings; the second is of an older format.
const SERVERS: [&str; 2] = ["mcp", "mcpServers"];

/// Disables them in the variable whose settings override all others, so that no project can enable
/// one again.
pub(super) fn switch_off(brand: &Brand, launch: &Launch, plan: &mut LaunchPlan) {
    if launch.mcp_servers.is_empty() {
        return;
    }
    let variable = format!("{}_CONFIG_CONTENT", brand.prefix);
    let content =
        launch.environment.get(&variable).map_or_else(|| Some(json!({})), jsonc::parse_with_commas);
    // The CLI reports what is wrong with it.
    let Some(Value::Object(mut content)) = content else { return };
    let read = |path: PathBuf| jsonc::parse_with_commas(&file::settings(&path)?);
    let read = settings_files(brand, &launch.environment, Path::new(&plan.cwd))
        .into_iter()
        .filter_map(read);
    let theirs: Vec<_> = read.chain([content.clone().into()]).flat_map(|it| names(&it)).collect();
    let others = theirs.into_iter().filter(|name| !launch.mcp_servers.contains_key(name));
    let servers = content.entry(SERVERS[0]).or_insert_with(|| json!({}));
    others.for_each(|name| switch_one_off(servers, name));
    // Ours must be whole here, too: otherwise a server of the same name in a project would be
    // merged with it, and get its secrets.
    if let Value::Object(servers) = servers {
        let ours = launch.mcp_servers.iter().map(|(name, server)| (name.clone(), form(server)));
        servers.extend(ours);
    }
    plan.env.insert(variable, Some(Value::Object(content).to_string()));
}

fn switch_one_off(servers: &mut Value, name: String) {
    let Value::Object(servers) = servers else { return };
    match servers.entry(name).or_insert_with(|| Map::new().into()) {
        Value::Object(server) => drop(server.insert("enabled".to_owned(), false.into())),
        other => *other = json!({ "enabled": false }),
    }
}

/// Returns every path at which there may be settings.
fn settings_files(brand: &Brand, env: &Environment, cwd: &Path) -> Vec<PathBuf> {
    let home = env.get("HOME").map(PathBuf::from).unwrap_or_default();
    let config = env.get("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let mut folders = vec![config.join(brand.name)];
    folders.extend(env.get(&format!("{}_CONFIG_DIR", brand.prefix)).map(PathBuf::from));
    let parents = cwd.ancestors().chain([&*home]);
    folders.extend(parents.flat_map(|folder| FOLDERS.map(|name| folder.join(name))));
    let name = |end: &str| format!("{}.{end}", brand.name);
    let files = [name("json"), name("jsonc"), "opencode.json".to_owned()];
    let files =
        files.into_iter().chain(["opencode.jsonc", "config.json", "mcp.json"].map(str::to_owned));
    let files: Vec<_> = files.collect();
    folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file))).collect()
}

fn names(settings: &Value) -> Vec<String> {
    let servers = SERVERS.iter().filter_map(|key| settings.get(key)?.as_object());
    servers.flat_map(|servers| servers.keys().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::providers::McpServer;
    use crate::providers::opencode::KILO;

    #[test]
    fn servers_of_user_project_and_shell_are_switched_off() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for (file, text) in [
            ("config/kilo/kilo.jsonc", r#"{"mcp": {"memory": {}, "mine": {},}} // "x""#),
            ("home/.kilocode/mcp.json", r#"{"mcpServers": {"old": {}}}"#),
            ("home/project/kilo.json", r#"{"mcp": {"its": {"enabled": true}}}"#),
            ("home/project/.kilo/kilo.json", "{"),
        ] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let content = r#"{"model": "m", "mcp": {"more": {"type": "local", "command": ["x"]}}}"#;
        let around = [
            ("HOME", format!("{root}/home")),
            ("XDG_CONFIG_HOME", format!("{root}/config")),
            ("KILO_CONFIG_CONTENT", content.to_owned()),
        ];
        let around = around.map(|(name, value)| (name.to_owned(), value));
        let server = McpServer::Http { url: String::new(), headers: Default::default() };
        let mut launch = Launch { environment: Environment(around.into()), ..Launch::default() };
        let mut plan =
            LaunchPlan { cwd: format!("{root}/home/project/below"), ..LaunchPlan::default() };
        switch_off(&KILO, &launch, &mut plan);
        assert_eq!(plan.env, [].into(), "without servers of its own the user's stay");

        launch.mcp_servers = [("memory".to_owned(), server)].into();
        switch_off(&KILO, &launch, &mut plan);
        let merged = plan.env["KILO_CONFIG_CONTENT"].as_deref().and_then(jsonc::parse);
        let off = json!({ "enabled": false });
        let more = json!({ "type": "local", "command": ["x"], "enabled": false });
        let ours = json!({ "type": "remote", "url": "", "headers": {}, "enabled": true });
        let servers = json!({ "mine": off, "old": off, "its": off, "more": more, "memory": ours });
        assert_eq!(merged, Some(json!({ "model": "m", "mcp": servers })));
    }
}
