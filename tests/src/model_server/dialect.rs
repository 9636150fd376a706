//! The four wire formats: where each one puts the user's prompts, and how it says one text.
//! Knows no sockets.

use std::str::FromStr;

use serde_json::{Value, json};

use super::Recorded;
use super::http::Response;

/// How a CLI opens the conversation by itself, in the user's name.
const CONTEXT: &str = "This is the Qwen Code. We are setting up the context for our chat.";

/// A wire format of a model service.
#[derive(Clone, Copy)]
pub(super) enum Dialect {
    /// Anthropic Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
    /// OpenAI chat completions.
    Chat,
    /// Gemini `generateContent`.
    Gemini,
}

impl Dialect {
    /// The format of a request that runs a model, if it does.
    pub(super) fn of(method: &str, path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        match (method, path.rsplit('/').next().unwrap_or_default()) {
            ("POST", "messages") => Some(Self::Messages),
            ("POST", "responses") => Some(Self::Responses),
            ("POST", "completions") if path.ends_with("/chat/completions") => Some(Self::Chat),
            ("POST", name) if name.ends_with("enerateContent") => Some(Self::Gemini),
            _ => None,
        }
    }

    /// Whether the CLI asks on its own behalf, as for a title: what may call no tool.
    pub(super) fn is_aside(self, body: &Value) -> bool {
        matches!(self, Self::Chat) && body["tools"].as_array().is_none_or(Vec::is_empty)
    }

    /// What the user wrote, without what the CLI added.
    pub(super) fn prompts(self, body: &Value) -> Vec<String> {
        let (messages, content) = match self {
            Self::Messages | Self::Chat => ("messages", "content"),
            Self::Responses => ("input", "content"),
            Self::Gemini => ("contents", "parts"),
        };
        let messages = body[messages].as_array().map(Vec::as_slice).unwrap_or_default();
        messages
            .iter()
            .filter(|message| message["role"] == "user")
            .map(|message| prompt(&message[content]))
            .filter(|prompt| !prompt.is_empty() && !prompt.starts_with(CONTEXT))
            .collect()
    }

    /// The whole response that says one text, as a stream if the request asks for one.
    pub(super) fn response(self, request: &Recorded, text: &str) -> Response {
        let streams = match self {
            Self::Gemini => request.path.contains(":stream"),
            _ => request.body["stream"] == true,
        };
        let model = &request.body["model"];
        let (document, events) = match self {
            Self::Messages => messages(model, text),
            Self::Responses => responses(model, text),
            Self::Chat => chat(model, text),
            Self::Gemini => gemini(text),
        };
        if streams { Response::events(&events) } else { Response::json(&document) }
    }

    /// The response that calls a tool without arguments, unless the request has the tool's result
    /// already or does not offer it.
    pub(super) fn call(self, request: &Recorded, tool: &str) -> Option<Response> {
        let body = &request.body;
        let offered = body["tools"].as_array()?.iter().any(|offer| offer["name"] == tool);
        let last = body["messages"].as_array()?.last()?.to_string();
        if !matches!(self, Self::Messages) || !offered || last.contains("tool_result") {
            return None;
        }
        let content = json!({"type": "tool_use", "id": unique("toolu"), "name": tool, "input": {}});
        Some(Response::events(&message(&body["model"], &content, "tool_use").1))
    }
}

/// The answer that proves which prompts arrived.
pub(super) fn answer(prompts: &[String]) -> String {
    let short = |prompt: Option<&String>| -> String {
        prompt
            .map(|prompt| prompt.replace('\n', " ").chars().take(80).collect())
            .unwrap_or_default()
    };
    let (first, last) = (short(prompts.first()), short(prompts.last()));
    format!("FAKE turns={} first='{first}' last='{last}'", prompts.len())
}

/// The value of a directive in a prompt, such as `[[sleep 0.5]]`.
pub(super) fn directive<T: FromStr>(prompt: &str, name: &str) -> Option<T> {
    let (value, _) = prompt.split_once(&format!("[[{name} "))?.1.split_once("]]")?;
    value.parse().ok()
}

/// The user's own words in one message: a string, or blocks with a text.
fn prompt(content: &Value) -> String {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str()).chain(content.as_str());
    let own: Vec<_> = texts.map(without_wrappers).filter(|text| !text.is_empty()).collect();
    own.join("\n")
}

/// Cuts the elements that a CLI puts before a prompt, such as `<environment_context>…`.
fn without_wrappers(text: &str) -> &str {
    let text = text.trim();
    let element = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let closing = element.map(|(name, _)| format!("</{name}>"));
    match closing.and_then(|closing| Some(text.split_once(closing.as_str())?.1)) {
        Some(rest) => without_wrappers(rest),
        None => text,
    }
}

fn messages(model: &Value, text: &str) -> (Value, Vec<Value>) {
    message(model, &json!({"type": "text", "text": text}), "end_turn")
}

/// One message with one block.
fn message(model: &Value, block: &Value, stop: &str) -> (Value, Vec<Value>) {
    let id = unique("msg");
    let message = |content: Value, stop: Value| {
        json!({
            "id": id, "type": "message", "role": "assistant", "model": model,
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        })
    };
    let (begun, delta) = match block["text"].as_str() {
        Some(text) => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}))
        }
        None => (block.clone(), json!({"type": "input_json_delta", "partial_json": "{}"})),
    };
    let events = vec![
        json!({"type": "message_start", "message": message(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": begun}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "usage": {"output_tokens": 5},
            "delta": {"stop_reason": stop, "stop_sequence": null}}),
        json!({"type": "message_stop"}),
    ];
    (message(json!([block]), json!(stop)), events)
}

fn responses(model: &Value, text: &str) -> (Value, Vec<Value>) {
    let item_id = unique("msg");
    let item = |status: &str, content: Value| {
        json!({"type": "message", "id": item_id, "role": "assistant", "status": status,
            "content": content})
    };
    let part = json!({"type": "output_text", "text": text, "annotations": []});
    let done = item("completed", json!([part]));
    let id = unique("resp");
    let response = |status: &str, output: Value| {
        json!({
            "id": id, "object": "response", "created_at": 0, "model": model,
            "status": status, "output": output,
            "usage": {
                "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 15,
            },
        })
    };
    let completed = response("completed", json!([done]));
    let events = vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]))}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": item("in_progress", json!([]))}),
        json!({"type": "response.output_text.delta", "item_id": item_id, "output_index": 0,
            "content_index": 0, "delta": text}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
        json!({"type": "response.completed", "response": completed}),
    ];
    (completed, events)
}

fn chat(model: &Value, text: &str) -> (Value, Vec<Value>) {
    let id = unique("chatcmpl");
    let object = |kind: &str, choice: Value, usage: Value| {
        json!({
            "id": id, "object": kind, "created": 1, "model": model, "choices": [choice],
            "usage": usage,
        })
    };
    let chunk = |delta: &Value, finish: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        object("chat.completion.chunk", choice, usage)
    };
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let message = json!({"role": "assistant", "content": text});
    let events = vec![
        chunk(&message, Value::Null, Value::Null),
        chunk(&json!({}), json!("stop"), usage.clone()),
    ];
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    (object("chat.completion", choice, usage), events)
}

fn gemini(text: &str) -> (Value, Vec<Value>) {
    let document = json!({
        "candidates": [{
            "content": {"role": "model", "parts": [{"text": text}]},
            "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15,
        },
        "responseId": unique("resp"),
    });
    let events = vec![document.clone()];
    (document, events)
}

fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_only_what_the_user_wrote() {
        let body = json!({"messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>\nnoise\n</system-reminder>\n"},
                {"type": "text", "text": "one"},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
            {"role": "user", "content": "<a b>noise</a b><c>noise</c> two [[sleep 0.5]]"},
        ]});
        let prompts = Dialect::Messages.prompts(&body);
        assert_eq!(prompts, ["one", "two [[sleep 0.5]]"]);
        assert_eq!(answer(&prompts), "FAKE turns=2 first='one' last='two [[sleep 0.5]]'");
        assert_eq!(directive(&prompts[1], "sleep"), Some(0.5));
        assert_eq!(directive::<u16>(&prompts[1], "status"), None);
    }
}
