//! Decodes lines of `opencode run --format json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::{self, event};

/// The log text of a failed call of the model.
const CALL_FAILED: &str = "error.error=\"AI_APICallError: ";

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    // Every step repeats the session; a run that fails at once has no step.
    let started =
        || event(EventType::Started, None, json!({ "provider_session_id": line["sessionID"] }));
    let part = &line["part"];
    match line["type"].as_str().unwrap_or_default() {
        "step_start" => vec![started()],
        "text" => vec![event(EventType::Text, part["text"].as_str(), json!({}))],
        "reasoning" => vec![event(EventType::Thinking, part["text"].as_str(), json!({}))],
        "tool_use" => {
            let [id, name, state] = ["callID", "tool", "state"].map(|key| &part[key]);
            let call = json!({ "id": id, "name": name, "input": state["input"] });
            let result = json!({ "id": id, "status": state["status"] });
            let message = state["output"].as_str().or(state["error"].as_str());
            vec![
                event(EventType::ToolCall, None, call),
                event(EventType::ToolResult, message, result),
            ]
        }
        "step_finish" => {
            let usage = usage(part);
            match part["reason"].as_str() {
                // The model continues after its tools have returned.
                Some("tool-calls" | "unknown") | None => vec![usage],
                Some(_) => {
                    vec![usage, event(EventType::Result, None, json!({ "cost": part["cost"] }))]
                }
            }
        }
        "error" => {
            let error = &line["error"];
            let message = [&error["data"]["message"], &error["name"], error];
            let message = message.into_iter().find_map(Value::as_str);
            let status = error["data"]["statusCode"].as_u64().and_then(|it| it.try_into().ok());
            vec![started(), failure::event(message, status)]
        }
        _ => Vec::new(),
    }
}

/// Returns the usage of one step. Versions differ in whether the output includes the reasoning, so
/// the output is computed from the total. A cost of 0 means that the price is unknown.
fn usage(part: &Value) -> Event {
    let tokens = &part["tokens"];
    let cached = ["read", "write"].map(|name| tokens["cache"][name].as_u64().unwrap_or(0));
    let add = |input: u64| cached.into_iter().fold(input, u64::saturating_add);
    let tokens_in = tokens["input"].as_u64().map(add);
    let tokens_out = tokens["total"].as_u64().zip(tokens_in);
    let tokens_out = tokens_out.and_then(|(total, tokens_in)| total.checked_sub(tokens_in));
    let mut own = tokens.as_object().cloned().unwrap_or_default();
    own.insert("cost".to_owned(), part["cost"].clone());
    let cost_usd = part["cost"].as_f64().filter(|cost| *cost > 0.0);
    output::usage(&own.into(), tokens_in, tokens_out, cost_usd)
}

/// Returns the last failure of a call: the CLI tries again for a minute and reports that only in
/// its log on standard error. Lines that are not log lines are its own words.
pub(super) fn explain(stderr: &str) -> Option<Event> {
    let of_call = |line: &str| {
        let (_, message) =
            line.split_once("message=\"stream error\"")?.1.split_once(CALL_FAILED)?;
        Some(message.trim_end_matches('"').to_owned())
    };
    let is_log = |line: &&str| line.contains(" level=");
    let own = || stderr.lines().filter(|line| !is_log(line)).collect::<Vec<_>>().join("\n");
    let message = stderr.lines().rev().find_map(of_call);
    let message = message.or_else(|| stderr.lines().any(|line| is_log(&line)).then(own));
    message.map(|message| failure::event(Some(&message), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_read_from_the_log() {
        let log = "timestamp=2026 level=ERROR run=1 message=\"stream error\" modelID=m \
            error.error=\"AI_APICallError: slow down. Please try again in 30s.\"";
        let event = explain(&format!("cut\n{log}\n{log}\nlevel")).unwrap();
        assert_eq!(event.text.as_deref(), Some("slow down. Please try again in 30s."));
        assert_eq!(event.data.0["retry_after_ms"], 30_000);
        let other = "timestamp=2026 level=ERROR message=other\nError: Session not found";
        assert_eq!(explain(other).unwrap().text.as_deref(), Some("Error: Session not found"));
        assert_eq!(explain("Error: Session not found"), None);
    }

    fn kinds(line: &str) -> Vec<EventType> {
        decode(line).into_iter().map(|event| event.kind).collect()
    }

    #[test]
    fn only_the_last_step_is_the_result() {
        let step = |reason: &str| {
            kinds(&format!(r#"{{"type":"step_finish","part":{{"reason":"{reason}"}}}}"#))
        };
        assert_eq!(step("tool-calls"), [EventType::Usage]);
        assert_eq!(step("stop"), [EventType::Usage, EventType::Result]);
        let odd = r#"{"type":"step_finish","part":{"reason":"stop","tokens":7,"cost":1}}"#;
        assert_eq!(decode(odd)[0].data.0, json!({ "cost": 1, "cost_usd": 1.0 }));
        let cached = r#"{"type":"step_finish","part":{"reason":"stop","cost":0,"tokens":{"total":50,
            "input":10,"output":2,"reasoning":3,"cache":{"read":30,"write":5}}}}"#;
        let usage = &decode(&cached.replace('\n', ""))[0].data.0;
        assert_eq!(
            [&usage["tokens_in"], &usage["tokens_out"], &usage["cost_usd"]],
            [&json!(45), &json!(5), &Value::Null],
        );
        assert_eq!(kinds("garbage"), []);
    }

    #[test]
    fn run_that_fails_at_once_names_its_session() {
        let line = r#"{"type":"error","sessionID":"ses_1","error":{"name":"APIError",
            "data":{"message":"invalid key","statusCode":401}}}"#;
        let events = decode(&line.replace('\n', ""));
        assert_eq!(events[0].data.0["provider_session_id"], "ses_1");
        assert_eq!(events[1].text.as_deref(), Some("invalid key"));
        let events = decode(r#"{"type":"error","error":"run ended"}"#);
        assert_eq!(events[1].text.as_deref(), Some("run ended"));
    }
}
