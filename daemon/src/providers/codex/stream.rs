//! Decodes lines of `codex exec --json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::event;

/// The start of the message of a call that is made again.
const RECONNECTING: &str = "Reconnecting...";

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
        ("error", _) => {
            let message = line["message"].as_str();
            message.filter(|it| it.starts_with(RECONNECTING)).map(retry).into_iter().collect()
        }
        // An item of type `error` may be only a warning, so it is not decoded.
        ("turn.failed", _) => {
            let message = line["error"]["message"].as_str();
            vec![failure::event(message, message.and_then(http_status))]
        }
        _ => Vec::new(),
    }
}

/// Returns the event of `Reconnecting... 2/5 (stream disconnected before completion: …)`.
fn retry(message: &str) -> Event {
    let told = message[RECONNECTING.len()..].trim_start();
    let (count, cause) = told.split_once(' ').unwrap_or((told, ""));
    let (attempt, max) = count.split_once('/').unwrap_or_default();
    let [attempt, max] = [attempt, max].map(|it| Value::from(it.parse::<u64>().ok()));
    let cause = cause.trim().trim_start_matches('(').trim_end_matches(')');
    let cause = Some(cause).filter(|cause| !cause.is_empty());
    failure::retry(cause, &attempt, &max, &Value::Null)
}

/// The CLI names no status for an overloaded service.
fn http_status(message: &str) -> Option<u16> {
    failure::http_status(message).or_else(|| message.contains("high demand").then_some(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_next_attempt_is_an_event() {
        let line = r#"{"type":"error","message":"Reconnecting... 2/5 (stream disconnected: 1)"}"#;
        let [retry] = &decode(line)[..] else { panic!("one event") };
        assert_eq!(
            (retry.kind, retry.text.as_deref()),
            (EventType::Retry, Some("stream disconnected: 1"))
        );
        assert_eq!([&retry.data.0["attempt"], &retry.data.0["max_attempts"]], [2, 5]);
        let short = decode(r#"{"type":"error","message":"Reconnecting... 1/5"}"#);
        assert_eq!((short[0].kind, short[0].text.as_deref()), (EventType::Retry, None));
    }

    #[test]
    fn warning_is_not_an_error() {
        let kinds = |line: &str| decode(line).into_iter().map(|e| e.kind).collect::<Vec<_>>();
        let warning =
            r#"{"type":"item.completed","item":{"type":"error","message":"no metadata"}}"#;
        assert_eq!(kinds(warning), []);
        assert_eq!(kinds(r#"{"type":"error","message":"something else"}"#), []);
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
