//! Helpers that the decoders of several CLIs share: events, and MCP servers with their tools.
//! Knows no provider.

use serde_json::{Value, json};
use sessd_proto::{Event, Json};

/// Makes an event of a turn; `seq`, `at` and `session_id` are set by the caller of the decoder.
pub fn event(kind: &str, text: Option<&str>, data: Value) -> Event {
    Event {
        kind: kind.to_owned(),
        text: text.map(str::to_owned),
        data: Json(data),
        ..Event::default()
    }
}

/// Returns the text of a tool result: a string, or the text blocks of a list.
pub fn result_text(content: &Value) -> Option<String> {
    let blocks = content.as_array().into_iter().flatten();
    let texts: Vec<_> =
        blocks.filter_map(|block| block["text"].as_str()).chain(content.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Returns the MCP servers of a start, each with its tools. A tool is named `mcp__SERVER__TOOL`,
/// with the characters of the server's name mapped by `plain`.
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
