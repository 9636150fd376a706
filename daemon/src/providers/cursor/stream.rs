//! Decodes lines of `cursor-agent --output-format=stream-json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::event;

/// Error codes of the CLI's own protocol, with the HTTP status of the same meaning.
const CODES: [(&str, u16); 7] = [
    ("[unauthenticated]", 401),
    ("[permission_denied]", 403),
    ("[not_found]", 404),
    ("[resource_exhausted]", 429),
    ("[internal]", 500),
    ("[unavailable]", 503),
    ("[deadline_exceeded]", 504),
];

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let of = [&line["type"], &line["subtype"]].map(|it| it.as_str().unwrap_or_default());
    match of {
        ["system", "init"] => {
            let data = json!({ "provider_session_id": line["session_id"], "model": line["model"] });
            vec![event(EventType::Started, None, data)]
        }
        ["assistant", _] => {
            let blocks = line["message"]["content"].as_array().into_iter().flatten();
            let texts = blocks.filter_map(|block| block["text"].as_str());
            texts.map(|text| event(EventType::Text, Some(text), json!({}))).collect()
        }
        ["thinking", "delta"] => {
            vec![event(EventType::Thinking, line["text"].as_str(), json!({ "delta": true }))]
        }
        ["tool_call", "started"] => {
            let (name, call) = tool(&line);
            let data = json!({ "id": line["call_id"], "name": name, "input": call["args"] });
            vec![event(EventType::ToolCall, None, data)]
        }
        ["tool_call", "completed"] => {
            let result = &tool(&line).1["result"];
            let is_error = result["success"].is_null();
            let data = json!({ "id": line["call_id"], "is_error": is_error, "output": result });
            vec![event(EventType::ToolResult, result["success"]["content"].as_str(), data)]
        }
        ["result", _] if line["is_error"] == true => {
            vec![failed(line["result"].as_str().unwrap_or_default())]
        }
        ["result", _] => vec![
            event(EventType::Usage, None, line["usage"].clone()),
            event(EventType::Result, line["result"].as_str(), json!({})),
        ],
        _ => Vec::new(),
    }
}

/// Returns a failed call: the CLI reports it only on standard error.
pub(super) fn explain(stderr: &str) -> Option<Event> {
    (!stderr.is_empty()).then(|| failed(stderr))
}

fn failed(words: &str) -> Event {
    let code = CODES.iter().find(|(code, _)| words.contains(code));
    failure::event(Some(words), code.map(|(_, status)| *status))
}

/// Returns the name and the content of a tool call; the name is the key: `readToolCall`, …
fn tool(line: &Value) -> (Option<&str>, &Value) {
    let mut calls = line["tool_call"].as_object().into_iter().flatten();
    match calls.next() {
        Some((name, call)) if name == "function" => (call["name"].as_str(), call),
        Some((name, call)) => (Some(name.trim_end_matches("ToolCall")), call),
        None => (None, &Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_is_named_by_its_key() {
        let call = |subtype: &str, call: Value| {
            let line = json!({
                "type": "tool_call", "subtype": subtype, "call_id": "a\nb",
                "tool_call": { "readToolCall": call },
            });
            decode(&line.to_string()).remove(0)
        };
        let started = call("started", json!({ "args": { "path": "x" } }));
        assert_eq!((started.kind, &started.data.0["name"]), (EventType::ToolCall, &json!("read")));
        let done = call("completed", json!({ "result": { "success": { "content": "text" } } }));
        assert_eq!((done.text.as_deref(), &done.data.0["is_error"]), (Some("text"), &json!(false)));
        let refused = call("completed", json!({ "result": { "rejected": { "reason": "no" } } }));
        assert_eq!(refused.data.0["is_error"], true);
    }

    #[test]
    fn error_codes_say_if_a_retry_helps() {
        let data = |stderr: &str| explain(stderr).unwrap().data.0;
        let limited = data("ConnectError: [resource_exhausted] Error");
        assert_eq!((&limited["http_status"], &limited["retryable"]), (&json!(429), &json!(true)));
        assert_eq!(data("Error: [unauthenticated] Not logged in.")["retryable"], false);
        let limit = "ActionRequiredError: You've reached your usage limit";
        assert_eq!(data(limit)["retryable"], json!(null));
        assert_eq!(explain(""), None);
    }

    #[test]
    fn unknown_line_is_no_event() {
        for line in ["no json", r#"{"type":"retry","subtype":"starting"}"#, r#"{"type":"user"}"#] {
            assert_eq!(decode(line), [], "{line}");
        }
    }
}
