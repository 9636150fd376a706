//! Decodes lines of `claude --output-format stream-json`.

use serde_json::{Value, json};
use sessd_proto::{Event, EventType, Json, Timestamp};

use crate::providers::failure;
use crate::providers::output::{self, event, mcp_servers, result_text, sum};

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let blocks = || line["message"]["content"].as_array().into_iter().flatten();
    match (line["type"].as_str().unwrap_or_default(), &line["subtype"]) {
        ("system", subtype) if subtype == "init" => {
            let data = json!({
                "provider_session_id": line["session_id"], "model": line["model"],
                "tools": line["tools"], "mcp_servers": with_tools(&line),
            });
            vec![event(EventType::Started, None, data)]
        }
        ("system", subtype) if subtype == "api_retry" => vec![retry(&line)],
        // What a subagent says is not part of the answer.
        ("assistant" | "user" | "stream_event", _) if !line["parent_tool_use_id"].is_null() => {
            Vec::new()
        }
        ("stream_event", _) => delta(&line["event"]).into_iter().collect(),
        // The CLI's own words about a failure; they come again as the error.
        ("assistant", _) if line["message"]["model"] == "<synthetic>" => Vec::new(),
        ("assistant", _) => blocks()
            .filter_map(|block| match block["type"].as_str()? {
                "text" => Some(event(EventType::Text, block["text"].as_str(), json!({}))),
                "thinking" => {
                    Some(event(EventType::Thinking, block["thinking"].as_str(), json!({})))
                }
                "tool_use" => {
                    let [id, name, input] = ["id", "name", "input"].map(|key| &block[key]);
                    let data = json!({ "id": id, "name": name, "input": input });
                    Some(event(EventType::ToolCall, None, data))
                }
                _ => None,
            })
            .collect(),
        ("user", _) => blocks()
            .filter(|block| block["type"] == "tool_result")
            .map(|block| {
                let data = json!({ "id": block["tool_use_id"], "is_error": block["is_error"] });
                event(EventType::ToolResult, result_text(&block["content"]).as_deref(), data)
            })
            .collect(),
        // Errors have `"subtype":"success"` too.
        ("result", _) if line["is_error"] == true => {
            let status = line["api_error_status"].as_u64().and_then(|it| it.try_into().ok());
            vec![failure::event(line["result"].as_str(), status)]
        }
        ("rate_limit_event", _) => rate_limit(&line["rate_limit_info"]).into_iter().collect(),
        ("result", _) => vec![
            usage(&line),
            event(
                EventType::Result,
                line["result"].as_str(),
                json!({ "cost_usd": line["total_cost_usd"] }),
            ),
        ],
        _ => Vec::new(),
    }
}

/// Returns the usage of this run alone, even where it has resumed a session. The input tokens that
/// Claude Code reports exclude those read from or written to the cache, so they are added.
fn usage(line: &Value) -> Event {
    let own = &line["usage"];
    let cached = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let tokens_out = own["output_tokens"].as_u64();
    output::usage(own, sum(own, &cached), tokens_out, line["total_cost_usd"].as_f64())
}

/// Returns the event of a call that the CLI will make again.
fn retry(line: &Value) -> Event {
    let status = &line["error_status"];
    let cause = line["error"].as_str().map(str::to_owned);
    let cause = cause.or_else(|| Some(format!("status {}", status.as_u64()?)));
    let [attempt, max, delay] = ["attempt", "max_retries", "retry_delay_ms"].map(|key| &line[key]);
    let mut event = failure::retry(cause.as_deref(), attempt, max, delay);
    event.data.0["http_status"] = status.clone();
    event
}

/// Returns a part of a block; the whole block follows at its end.
fn delta(event: &Value) -> Option<Event> {
    let delta = &event["delta"];
    let (kind, text) = match delta["type"].as_str()? {
        "text_delta" => (EventType::Text, &delta["text"]),
        "thinking_delta" => (EventType::Thinking, &delta["thinking"]),
        _ => return None,
    };
    Some(self::event(kind, text.as_str(), json!({ "delta": true })))
}

/// Returns the MCP servers with their tools.
fn with_tools(line: &Value) -> Vec<Value> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    mcp_servers(line, plain)
}

/// Returns a subscription limit that was reached, and when it ends. The CLI also reports limits
/// that are not reached yet.
fn rate_limit(info: &Value) -> Option<Event> {
    let until = info["resetsAt"].as_i64().filter(|_| info["status"] == "rejected")?;
    let until = Timestamp(until.checked_mul(1_000)?);
    let data = Json(json!({ "until": until, "kind": info["rateLimitType"] }));
    Some(Event { kind: EventType::RateLimit, data, ..Event::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<(EventType, Option<String>)> {
        decode(line).into_iter().map(|event| (event.kind, event.text)).collect()
    }

    #[test]
    fn error_is_not_taken_for_success() {
        let line = r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error"}"#;
        assert_eq!(kinds(line), [(EventType::Error, Some("API Error".to_owned()))]);
        let line = r#"{"type":"result","subtype":"success","is_error":false,"result":"four"}"#;
        assert_eq!(kinds(line)[1], (EventType::Result, Some("four".to_owned())));
        let line = r#"{"type":"result","total_cost_usd":0.5,"usage":{"input_tokens":3,
            "cache_read_input_tokens":40,"output_tokens":7}}"#;
        let usage = &decode(&line.replace('\n', ""))[0].data.0;
        assert_eq!(
            [&usage["tokens_in"], &usage["tokens_out"], &usage["cost_usd"], &usage["input_tokens"]],
            [&json!(43), &json!(7), &json!(0.5), &json!(3)],
        );
    }

    #[test]
    fn deltas_are_events_and_subagents_are_not() {
        let line = |parent: Value| {
            let delta = json!({ "type": "text_delta", "text": "a" });
            let event = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
            let line = json!({ "type": "stream_event", "event": event,
                "parent_tool_use_id": parent });
            decode(&line.to_string())
        };
        assert_eq!(
            line(Value::Null),
            [event(EventType::Text, Some("a"), json!({ "delta": true }))]
        );
        assert_eq!(line("toolu_1".into()), []);
        let line = r#"{"type":"assistant","parent_tool_use_id":"toolu_1",
            "message":{"content":[{"type":"text","text":"a"}]}}"#;
        assert_eq!(kinds(line), []);
    }

    #[test]
    fn waiting_for_the_next_attempt_is_an_event() {
        let line = r#"{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,
            "retry_delay_ms":1500,"error_status":529,"error":"overloaded"}"#;
        assert_eq!(kinds(line), [(EventType::Retry, Some("overloaded".to_owned()))]);
        let data = json!({ "attempt": 2, "max_attempts": 10, "delay_ms": 1500,
            "http_status": 529 });
        assert_eq!(decode(line)[0].data.0, data);
    }

    #[test]
    fn limit_that_is_not_reached_is_no_event() {
        let line = |status: &str| {
            let info = json!({ "status": status, "resetsAt": 1_795_300_000, "rateLimitType": "x" });
            decode(&json!({ "type": "rate_limit_event", "rate_limit_info": info }).to_string())
        };
        assert_eq!(line("allowed_warning"), []);
        assert_eq!(line("rejected")[0].data.0["until"], "2026-11-21T22:26:40.000Z");
    }

    #[test]
    fn blocks_are_events_and_unknown_lines_are_none() {
        let line = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a"},
            {"type":"new"},{"type":"tool_use","id":"1","name":"Bash","input":{}}]}}"#;
        let seen: Vec<_> = kinds(line).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(seen, [EventType::Text, EventType::ToolCall]);
        assert_eq!(kinds("no json"), []);
        assert_eq!(kinds(r#"{"type":"later"}"#), []);
    }
}
