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

/// A `usage` event with the provider's own figures, and beside them those that a session adds up:
/// `None` for a figure that is missing or not of this run (or step) alone.
pub fn usage(
    own: &Value,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    cost_usd: Option<f64>,
) -> Event {
    let mut data = own.as_object().cloned().unwrap_or_default();
    let tokens = [("tokens_in", tokens_in), ("tokens_out", tokens_out)];
    data.extend(tokens.into_iter().filter_map(|(name, count)| Some((name.into(), count?.into()))));
    data.extend(cost_usd.map(|cost| ("cost_usd".to_owned(), cost.into())));
    event("usage", None, data.into())
}

/// Returns the sum of token counts, where one that is missing is none; `None` without the first.
pub fn sum(counts: &Value, names: &[&str]) -> Option<u64> {
    let first = counts[*names.first()?].as_u64()?;
    let more = names[1..].iter().filter_map(|name| counts[*name].as_u64());
    Some(more.fold(first, u64::saturating_add))
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
