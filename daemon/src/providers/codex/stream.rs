//! Decodes lines of `codex exec --json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::event;

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let item = &line["item"];
    match (line["type"].as_str().unwrap_or_default(), item["type"].as_str().unwrap_or_default()) {
        ("thread.started", _) => {
            vec![event(
                EventType::Started,
                None,
                json!({ "provider_session_id": line["thread_id"] }),
            )]
        }
        ("item.completed", "agent_message") => {
            vec![event(EventType::Text, item["text"].as_str(), json!({}))]
        }
        ("item.completed", "reasoning") => {
            vec![event(EventType::Thinking, item["text"].as_str(), json!({}))]
        }
        ("item.completed", "command_execution") => {
            let call = json!({ "id": item["id"], "name": "shell", "input": item["command"] });
            let result = json!({ "id": item["id"], "exit_code": item["exit_code"] });
            vec![
                event(EventType::ToolCall, None, call),
                event(EventType::ToolResult, item["aggregated_output"].as_str(), result),
            ]
        }
        ("item.completed", "mcp_tool_call") => {
            let call = json!({
                "id": item["id"], "server": item["server"], "name": item["tool"],
                "input": item["arguments"],
            });
            let result = json!({ "id": item["id"], "result": item["result"] });
            vec![event(EventType::ToolCall, None, call), event(EventType::ToolResult, None, result)]
        }
        ("turn.completed", _) => {
            vec![
                event(EventType::Usage, None, line["usage"].clone()),
                event(EventType::Result, None, json!({})),
            ]
        }
        // An item of type `error` may be only a warning, so it is not decoded.
        ("turn.failed", _) => {
            let message = line["error"]["message"].as_str();
            vec![failure::event(message, message.and_then(http_status))]
        }
        _ => Vec::new(),
    }
}

/// The CLI names no status for an overloaded service.
fn http_status(message: &str) -> Option<u16> {
    failure::http_status(message).or_else(|| message.contains("high demand").then_some(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_is_not_an_error() {
        let kinds = |line: &str| decode(line).into_iter().map(|e| e.kind).collect::<Vec<_>>();
        let warning =
            r#"{"type":"item.completed","item":{"type":"error","message":"no metadata"}}"#;
        assert_eq!(kinds(warning), []);
        assert_eq!(kinds(r#"{"type":"error","message":"Reconnecting... 1/5"}"#), []);
        assert_eq!(
            kinds(r#"{"type":"turn.failed","error":{"message":"401"}}"#),
            [EventType::Error]
        );
        assert_eq!(
            kinds(r#"{"type":"turn.completed","usage":{}}"#),
            [EventType::Usage, EventType::Result]
        );
    }
}
