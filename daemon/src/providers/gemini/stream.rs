//! Decodes lines of `gemini -o stream-json`.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use crate::providers::failure;
use crate::providers::output::event;

/// Returns the events in one line; none for an unknown one.
pub(super) fn decode(line: &str) -> Vec<Event> {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    match line["type"].as_str().unwrap_or_default() {
        "init" => {
            let [id, model] = ["session_id", "model"].map(|key| &line[key]);
            vec![event(
                EventType::Started,
                None,
                json!({ "provider_session_id": id, "model": model }),
            )]
        }
        "message" if line["role"] == "assistant" => {
            vec![event(
                EventType::Text,
                line["content"].as_str(),
                json!({ "delta": line["delta"] }),
            )]
        }
        "tool_use" => {
            let [id, name, input] = ["tool_id", "tool_name", "parameters"].map(|key| &line[key]);
            vec![event(
                EventType::ToolCall,
                None,
                json!({ "id": id, "name": name, "input": input }),
            )]
        }
        "tool_result" => {
            let data = json!({ "id": line["tool_id"], "status": line["status"] });
            vec![event(EventType::ToolResult, line["output"].as_str(), data)]
        }
        "result" if line["status"] == "success" => {
            vec![
                event(EventType::Usage, None, line["stats"].clone()),
                event(EventType::Result, None, json!({})),
            ]
        }
        // Not a warning. The result that follows an error may lack its words.
        "error" if line["severity"] == "error" => failure_of(&line["message"]),
        "result" => failure_of(&line["error"]["message"]),
        _ => Vec::new(),
    }
}

/// Returns the last failure on standard error. The CLI tries again for minutes and reports that
/// only there; a call that was refused for good ends there with the status that its output lacks.
pub(super) fn explain(stderr: &str) -> Option<Event> {
    let openings = ["Attempt ", "Error when talking to "];
    let last = stderr.rmatch_indices('\n').map(|(at, _)| at + 1).chain([0]);
    let last =
        last.map(|at| &stderr[at..]).find(|text| openings.iter().any(|it| text.starts_with(it)))?;
    let (words, trace) = last.split_once("\n    at ").unwrap_or((last, last));
    let status = failure::http_status(words).or_else(|| failure::http_status(trace));
    let line = words.lines().next().unwrap_or_default();
    let (attempt, cause) = line.split_once(". Retrying with backoff... ").unwrap_or((line, ""));
    let cause = failed(cause).text.filter(|cause| !cause.is_empty());
    let text = cause.map_or_else(|| attempt.to_owned(), |cause| format!("{attempt}: {cause}"));
    Some(Event { text: Some(text), ..failure::event(Some(words), status) })
}

fn failure_of(message: &Value) -> Vec<Event> {
    message.as_str().map(failed).into_iter().collect()
}

/// Makes the event of a failed call. Its words are often the service's answer, quoted in full.
fn failed(words: &str) -> Event {
    let answer = words.find('{').map(|at| &words[at..]).unwrap_or_default();
    let answer = serde_json::Deserializer::from_str(answer).into_iter::<Value>().next();
    let error = answer.and_then(Result::ok).map(|answer| answer["error"].clone());
    let (message, status) = match &error {
        Some(error) => (error["message"].as_str(), error["code"].as_u64()),
        None => (None, None),
    };
    let plain = words.trim_start_matches("[API Error: ").trim_end_matches(']');
    let status = status.and_then(|status| status.try_into().ok());
    failure::event(Some(message.unwrap_or(plain)), status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_read_from_stderr() {
        let again = "Attempt 2 failed with status 429. Retrying with backoff... _ApiError: \
            {\"error\":{\"code\":429,\"message\":\"slow down\"}}\n    at f (file:///a.js:1:2) {\n  \
            status: 429\n}";
        let stderr = format!("Attempt 1 failed\n{again}\n[STARTUP] Phase 'x'");
        let event = explain(&stderr).unwrap();
        let text = "Attempt 2 failed with status 429: slow down";
        assert_eq!(
            (event.text.as_deref(), &event.data.0["http_status"]),
            (Some(text), &429.into())
        );
        let timed =
            "Attempt 1 failed: Quota exceeded.\nSuggested retry after 30s.. Retrying after 34ms";
        assert_eq!(explain(timed).unwrap().data.0["retry_after_ms"], 30_000);
        let lost = "Attempt 3 failed. Retrying with backoff... Error: fetch failed sending request";
        let event = explain(lost).unwrap();
        assert_eq!(
            event.text.as_deref(),
            Some("Attempt 3 failed: Error: fetch failed sending request")
        );
        assert_eq!(event.data.0["retryable"], true);
        let refused = "Error when talking to Gemini API Full report available at: /t.json \
            ModelNotFoundError: none\n    at f (file:///a.js:1:2) {\n  code: 404\n}";
        assert_eq!(explain(refused).unwrap().data.0["http_status"], 404);
        assert_eq!(explain("Warning: no colours"), None);
    }

    #[test]
    fn only_the_models_words_are_text() {
        let texts =
            |line: &str| decode(line).into_iter().filter(|e| e.kind == EventType::Text).count();
        assert_eq!(texts(r#"{"type":"message","role":"user","content":"hello"}"#), 0);
        assert_eq!(texts(r#"{"type":"message","role":"assistant","content":"a","delta":true}"#), 1);
        let failed = decode(r#"{"type":"result","status":"error","error":{"message":"429"}}"#);
        assert_eq!((failed[0].kind, failed[0].text.as_deref()), (EventType::Error, Some("429")));
        let lost = r#"{"type":"error","severity":"error","message":"Model stream ended"}"#;
        assert_eq!(decode(lost)[0].text.as_deref(), Some("Model stream ended"));
        assert_eq!(decode(&lost.replace(r#""error","m"#, r#""warning","m"#)), []);
        assert_eq!(decode(r#"{"type":"result","status":"error","stats":{}}"#), []);
        let quoted = json!({ "type": "result", "status": "error", "error": {
            "message": "[API Error: {\"error\":{\"code\":401,\"message\":\"no key\"}}]" } });
        let failed = decode(&quoted.to_string()).remove(0);
        assert_eq!(
            (failed.text.as_deref(), &failed.data.0["http_status"]),
            (Some("no key"), &401.into())
        );
    }
}
