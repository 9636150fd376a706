//! What decoders of several CLIs share: an event, and MCP servers with their tools. Knows no CLI.

use serde_json::{Value, json};
use sessd_proto::{Event, Json};

/// An event of a turn; `seq`, `at` and `session_id` are the caller's.
pub fn event(kind: &str, text: Option<&str>, data: Value) -> Event {
    Event {
        kind: kind.to_owned(),
        text: text.map(str::to_owned),
        data: Json(data),
        ..Event::default()
    }
}

/// What a tool has answered: a text, or blocks of which some are.
pub fn answer(content: &Value) -> Option<String> {
    let blocks = content.as_array().into_iter().flatten();
    let texts: Vec<_> =
        blocks.filter_map(|block| block["text"].as_str()).chain(content.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// The MCP servers of a start, each with its own among all the tools: those are named
/// `mcp__SERVER__TOOL`, where the server is spelled by `plain`.
pub fn mcp_servers(line: &Value, plain: fn(char) -> char) -> Vec<Value> {
    let tools = line["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let servers = line["mcp_servers"].as_array().into_iter().flatten();
    servers
        .map(|server| {
            let name = server["name"].as_str().unwrap_or_default();
            let prefix = format!("mcp__{}__", name.chars().map(plain).collect::<String>());
            let is_its = |tool: &&Value| tool.as_str().is_some_and(|it| it.starts_with(&prefix));
            let tools: Vec<_> = tools.iter().filter(is_its).collect();
            json!({ "name": name, "status": server["status"], "tools": tools })
        })
        .collect()
}
