//! Decodes lines of `opencode run --format json`.

use serde_json::{Value, json};
use sessd_proto::Event;

use crate::providers::failure;
use crate::providers::output::event;

/// The log text of a failed call of the model.
const CALL_FAILED: &str = "error.error=\"AI_APICallError: ";

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    // Every step repeats the session; a run that fails at once has no step.
    let started = || event("started", None, json!({ "provider_session_id": line["sessionID"] }));
    let part = &line["part"];
    match line["type"].as_str().unwrap_or_default() {
        "step_start" => vec![started()],
        "text" => vec![event("text", part["text"].as_str(), json!({}))],
        "reasoning" => vec![event("thinking", part["text"].as_str(), json!({}))],
        "tool_use" => {
            let [id, name, state] = ["callID", "tool", "state"].map(|key| &part[key]);
            let call = json!({ "id": id, "name": name, "input": state["input"] });
            let result = json!({ "id": id, "status": state["status"] });
            let message = state["output"].as_str().or(state["error"].as_str());
            vec![event("tool_call", None, call), event("tool_result", message, result)]
        }
        "step_finish" => {
            let mut usage = part["tokens"].as_object().cloned().unwrap_or_default();
            usage.insert("cost".to_owned(), part["cost"].clone());
            let usage = event("usage", None, usage.into());
            match part["reason"].as_str() {
                // The model continues after its tools have returned.
                Some("tool-calls" | "unknown") | None => vec![usage],
                Some(_) => vec![usage, event("result", None, json!({ "cost": part["cost"] }))],
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

    fn kinds(line: &str) -> Vec<String> {
        decode(line).into_iter().map(|event| event.kind).collect()
    }

    #[test]
    fn only_the_last_step_is_the_result() {
        let step = |reason: &str| {
            kinds(&format!(r#"{{"type":"step_finish","part":{{"reason":"{reason}"}}}}"#))
        };
        assert_eq!(step("tool-calls"), ["usage"]);
        assert_eq!(step("stop"), ["usage", "result"]);
        let odd = r#"{"type":"step_finish","part":{"reason":"stop","tokens":7,"cost":1}}"#;
        assert_eq!(decode(odd)[0].data.0, json!({ "cost": 1 }));
        assert_eq!(kinds("garbage"), [""; 0]);
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
