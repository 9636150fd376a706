//! Lines of `gemini -o stream-json` as events.

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
    match line["type"].as_str().unwrap_or_default() {
        "init" => {
            let [id, model] = ["session_id", "model"].map(|key| &line[key]);
            vec![event("started", None, json!({ "provider_session_id": id, "model": model }))]
        }
        "message" if line["role"] == "assistant" => {
            vec![event("text", line["content"].as_str(), json!({ "delta": line["delta"] }))]
        }
        "tool_use" => {
            let [id, name, input] = ["tool_id", "tool_name", "parameters"].map(|key| &line[key]);
            vec![event("tool_call", None, json!({ "id": id, "name": name, "input": input }))]
        }
        "tool_result" => {
            let data = json!({ "id": line["tool_id"], "status": line["status"] });
            vec![event("tool_result", line["output"].as_str(), data)]
        }
        "result" if line["status"] == "success" => {
            vec![event("usage", None, line["stats"].clone()), event("result", None, json!({}))]
        }
        "result" => vec![event("error", line["error"]["message"].as_str(), json!({}))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_model_says_is_text() {
        let texts = |line: &str| decode(line).into_iter().filter(|e| e.kind == "text").count();
        assert_eq!(texts(r#"{"type":"message","role":"user","content":"hello"}"#), 0);
        assert_eq!(texts(r#"{"type":"message","role":"assistant","content":"a","delta":true}"#), 1);
        let failed = decode(r#"{"type":"result","status":"error","error":{"message":"429"}}"#);
        assert_eq!((&*failed[0].kind, failed[0].text.as_deref()), ("error", Some("429")));
    }
}
