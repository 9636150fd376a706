//! Lines of `--output-format stream-json` as events.

use serde_json::{Value, json};
use sessd_proto::{Event, Json};

/// The events in one line; what is not known says nothing.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let event = |kind: &str, text: Option<&str>, data: Value| Event {
        kind: kind.to_owned(),
        text: text.map(str::to_owned),
        data: Json(data),
        ..Event::default()
    };
    let blocks = || line["message"]["content"].as_array().into_iter().flatten();
    match (line["type"].as_str().unwrap_or_default(), &line["subtype"]) {
        ("system", subtype) if subtype == "init" => {
            let data = json!({
                "provider_session_id": line["session_id"], "model": line["model"],
                "tools": line["tools"], "mcp_servers": with_tools(&line),
            });
            vec![event("started", None, data)]
        }
        // Its own words about a failure are no answer; they come again as the error.
        ("assistant", _) if line["message"]["model"] == "<synthetic>" => Vec::new(),
        ("assistant", _) => blocks()
            .filter_map(|block| match block["type"].as_str()? {
                "text" => Some(event("text", block["text"].as_str(), json!({}))),
                "thinking" => Some(event("thinking", block["thinking"].as_str(), json!({}))),
                "tool_use" => {
                    let [id, name, input] = ["id", "name", "input"].map(|key| &block[key]);
                    let data = json!({ "id": id, "name": name, "input": input });
                    Some(event("tool_call", None, data))
                }
                _ => None,
            })
            .collect(),
        ("user", _) => blocks()
            .filter(|block| block["type"] == "tool_result")
            .map(|block| {
                let data = json!({ "id": block["tool_use_id"], "is_error": block["is_error"] });
                event("tool_result", block["content"].as_str(), data)
            })
            .collect(),
        // An error says `"subtype":"success"` too.
        ("result", _) if line["is_error"] == true => {
            let data = json!({ "http_status": line["api_error_status"] });
            vec![event("error", line["result"].as_str(), data)]
        }
        ("result", _) => vec![
            event("usage", None, line["usage"].clone()),
            event("result", line["result"].as_str(), json!({ "cost_usd": line["total_cost_usd"] })),
        ],
        _ => Vec::new(),
    }
}

/// The servers, each with its own among all the tools.
fn with_tools(line: &Value) -> Vec<Value> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<(String, Option<String>)> {
        decode(line).into_iter().map(|event| (event.kind, event.text)).collect()
    }

    #[test]
    fn an_error_is_not_taken_for_success() {
        let line = r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error"}"#;
        assert_eq!(kinds(line), [("error".to_owned(), Some("API Error".to_owned()))]);
        let line = r#"{"type":"result","subtype":"success","is_error":false,"result":"four"}"#;
        assert_eq!(kinds(line)[1], ("result".to_owned(), Some("four".to_owned())));
    }

    #[test]
    fn blocks_are_events_and_what_is_unknown_is_none() {
        let line = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a"},
            {"type":"new"},{"type":"tool_use","id":"1","name":"Bash","input":{}}]}}"#;
        let seen: Vec<_> = kinds(line).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(seen, ["text", "tool_call"]);
        assert_eq!(kinds("no json"), []);
        assert_eq!(kinds(r#"{"type":"later"}"#), []);
    }
}
