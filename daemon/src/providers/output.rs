//! Helpers that the decoders of several CLIs share: events, and MCP servers with their tools.
//! Knows no provider.

use serde_json::{Value, json};
use sessd_proto::{Event, EventType, Json};

/// Makes an event of a turn; `seq`, `at` and `session_id` are set by the caller of the decoder.
pub fn event(kind: EventType, text: Option<&str>, data: Value) -> Event {
    Event { kind, text: text.map(str::to_owned), data: Json(data), ..Event::default() }
}

/// Returns a `usage` event with the provider's own figures and, normalised, those that a session
/// adds up: `None` for a figure that is missing or does not cover this run (or step) alone.
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
    event(EventType::Usage, None, data.into())
}

/// Returns the sum of token counts, or `None` without the first; any other missing one counts 0.
pub fn sum(counts: &Value, names: &[&str]) -> Option<u64> {
    let first = counts[*names.first()?].as_u64()?;
    let more = names[1..].iter().filter_map(|name| counts[*name].as_u64());
    Some(more.fold(first, u64::saturating_add))
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
