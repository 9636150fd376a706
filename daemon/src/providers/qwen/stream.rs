//! Decodes lines of `qwen -o stream-json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::{event, mcp_servers, result_text};

/// The start of the text of a failed call of the model. The CLI prints it in place of an answer and
/// reports success.
const FAILED: &str = "[API Error: ";

/// Texts that may follow it.
const ADVICE: [&str; 2] =
    ["]\nPlease wait and try again later. ", "]\nPossible quota limitations in place "];

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
        ("system", subtype) if subtype == "retry" => {
            let [attempt, max, delay] =
                ["attempt", "maxRetries", "delayMs"].map(|key| &line["data"][key]);
            vec![failure::retry(None, attempt, max, delay)]
        }
        // What a subagent says is not part of the answer.
        ("assistant" | "user", _) if !line["parent_tool_use_id"].is_null() => Vec::new(),
        ("assistant", _) => {
            let is_free = line["message"]["usage"]["output_tokens"] == 0;
            blocks().flat_map(|block| block_events(block, is_free)).collect()
        }
        ("user", _) => blocks()
            .filter(|block| block["type"] == "tool_result")
            .map(|block| {
                let data = json!({ "id": block["tool_use_id"], "is_error": block["is_error"] });
                event(EventType::ToolResult, result_text(&block["content"]).as_deref(), data)
            })
            .collect(),
        ("result", _) => ended(&line),
        _ => Vec::new(),
    }
}

/// Returns the cause of the last retry, which the CLI tells only on standard error:
/// `Retrying in 60s (attempt 1/10): 429 slow down`.
pub(super) fn explain(stderr: &str) -> Option<Event> {
    let told = stderr.lines().rev().find_map(|line| line.strip_prefix("Retrying in "))?;
    let (_, cause) = told.split_once("): ")?;
    Some(failed(cause.trim()))
}

fn block_events(block: &Value, is_free: bool) -> Vec<Event> {
    match block["type"].as_str().unwrap_or_default() {
        "text" => {
            let text = block["text"].as_str().unwrap_or_default();
            let (text, failure) = if is_free { split(text) } else { (text, None) };
            let text = Some(text).filter(|text| !text.is_empty());
            let text = text.map(|text| event(EventType::Text, Some(text), json!({})));
            text.into_iter().chain(failure.map(failed)).collect()
        }
        "thinking" => vec![event(EventType::Thinking, block["thinking"].as_str(), json!({}))],
        "tool_use" => {
            let [id, name, input] = ["id", "name", "input"].map(|key| &block[key]);
            vec![event(
                EventType::ToolCall,
                None,
                json!({ "id": id, "name": name, "input": input }),
            )]
        }
        _ => Vec::new(),
    }
}

fn ended(line: &Value) -> Vec<Event> {
    if line["is_error"] == true {
        // Since 0.24 with the brackets that it has in an answer.
        let message = line["error"]["message"].as_str().unwrap_or_default();
        return vec![failed(split(message).1.unwrap_or(message))];
    }
    let result = line["result"].as_str();
    // The usage here is that of all calls: only the messages show if the last one has failed.
    let data = match result.and_then(|text| split(text).1) {
        Some(_) => json!({ "doubtful": true }),
        None => json!({}),
    };
    vec![
        event(EventType::Usage, None, line["usage"].clone()),
        event(EventType::Result, result, data),
    ]
}

/// Returns the MCP servers with their tools.
fn with_tools(line: &Value) -> Vec<Value> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    mcp_servers(line, plain)
}

/// Splits a text into the answer and the failure that ended it.
fn split(text: &str) -> (&str, Option<&str>) {
    let Some((answer, failure)) = text.rsplit_once(FAILED) else { return (text, None) };
    let advised = ADVICE.iter().find_map(|advice| failure.rsplit_once(advice));
    match failure.strip_suffix(']').or(advised.map(|(failure, _)| failure)) {
        Some(failure) => (answer, Some(failure)),
        None => (text, None),
    }
}

/// Makes the event of a failed call; some messages start with the HTTP status.
fn failed(message: &str) -> Event {
    let status = message.split(' ').next().and_then(|word| word.parse::<u16>().ok());
    failure::event(Some(message), status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(line: &str) -> Vec<(EventType, Option<String>)> {
        decode(line).into_iter().map(|event| (event.kind, event.text)).collect()
    }

    fn assistant(text: &str, tokens: u32) -> String {
        let content = json!([{ "type": "text", "text": text }]);
        let message = json!({ "content": content, "usage": { "output_tokens": tokens } });
        json!({ "type": "assistant", "parent_tool_use_id": null, "message": message }).to_string()
    }

    #[test]
    fn failed_call_is_not_taken_for_an_answer() {
        let said = "[API Error: 401 invalid key]";
        let error = [(EventType::Error, Some("401 invalid key".to_owned()))];
        assert_eq!(kinds(&assistant(said, 0)), error);
        assert_eq!(decode(&assistant(said, 0))[0].data.0["http_status"], 401);
        let advised = format!("{said}\nPossible quota limitations in place or slow response.");
        assert_eq!(kinds(&assistant(&advised, 0)), error);
        let half = kinds(&assistant(&format!("half of it{said}"), 0));
        assert_eq!(half[0], (EventType::Text, Some("half of it".to_owned())));
        assert_eq!(half[1..], error);
        // What a model says about failures is an answer.
        let quoted = kinds(&assistant(said, 7));
        assert_eq!(quoted, [(EventType::Text, Some(said.to_owned()))]);
        let result = |text: &str| {
            decode(&json!({ "type": "result", "result": text }).to_string()).pop().unwrap()
        };
        assert_eq!(result(said).data.0, json!({ "doubtful": true }));
        assert_eq!(result(&advised).data.0, json!({ "doubtful": true }));
        assert_eq!(result(&format!("{said} means: log in")).data.0, json!({}));
        let failed = r#"{"type":"result","is_error":true,"error":{"message":"limit"}}"#;
        assert_eq!(kinds(failed), [(EventType::Error, Some("limit".to_owned()))]);
        let failed = json!({ "type": "result", "is_error": true, "error": { "message": said } });
        assert_eq!(kinds(&failed.to_string()), error);
    }

    #[test]
    fn waiting_for_the_next_attempt_is_an_event() {
        let line = r#"{"type":"system","subtype":"retry","data":{"attempt":1,"maxRetries":10,
            "delayMs":60000}}"#;
        let [retry] = &decode(line)[..] else { panic!("one event") };
        assert_eq!(retry.kind, EventType::Retry);
        let data = json!({ "attempt": 1, "max_attempts": 10, "delay_ms": 60_000,
            "http_status": null });
        assert_eq!(retry.data.0, data);
        let stderr = "x\nRetrying in 60s (attempt 1/10): 429 slow down\nlast words\n";
        let cause = explain(stderr).unwrap();
        assert_eq!(cause.text.as_deref(), Some("429 slow down"));
        assert_eq!(cause.data.0["http_status"], 429);
        assert_eq!(explain("all is well"), None);
    }

    #[test]
    fn unknown_lines_and_subagents_are_no_events() {
        let line = r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[
            {"type":"text","text":"of a subagent"}]}}"#;
        for line in [line, "no json", r#"{"type":"later"}"#] {
            assert_eq!(kinds(line), [], "{line}");
        }
    }
}
