//! The four wire formats: finds the user's prompts in a request, and builds the response with a
//! text. Knows no sockets.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::Recorded;
use super::http::Response;

/// The beginnings of texts that CLIs write by themselves, in the user's name.
const CONTEXT: [&str; 2] =
    ["This is the Qwen Code. We are setting up the context for our chat.", "Tool loaded."];

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
    /// Returns the format of a request; `None` if it does not run a model.
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

    /// Returns the text of the user without what the CLI added.
    pub(super) fn prompts(self, body: &Value) -> Vec<String> {
        let (messages, content) = match self {
            Self::Messages | Self::Chat => ("messages", "content"),
            Self::Responses => ("input", "content"),
            Self::Gemini => ("contents", "parts"),
        };
        let messages = body[messages].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = messages.iter().filter(|message| message["role"] == "user");
        let own = own.map(|message| own_words(&message[content]));
        let prompts: Vec<String> = match self {
            // A prompt without an answer is in one message with the next prompt.
            Self::Gemini | Self::Chat => own.flatten().map(str::to_owned).collect(),
            _ => own.map(|words| words.join("\n")).collect(),
        };
        let is_context = |it: &str| CONTEXT.iter().any(|context| it.starts_with(context));
        let is_prompt = |it: &String| !it.is_empty() && !is_context(it);
        prompts.into_iter().filter(is_prompt).collect()
    }

    /// Returns the response with a text, as a stream if the request asks for one; there the server
    /// can pause between the parts.
    pub(super) fn response(self, request: &Recorded, parts: &[&str]) -> Response {
        let streams = match self {
            Self::Gemini => request.path.contains(":stream"),
            _ => request.body["stream"] == true,
        };
        let model = &request.body["model"];
        let (document, events) = match self {
            Self::Messages => messages(model, parts),
            Self::Responses => responses(model, parts),
            Self::Chat => chat(model, parts),
            Self::Gemini => gemini(parts),
        };
        if streams { Response::events(&events) } else { Response::json(&document) }
    }
}

/// True if a CLI asks on its own behalf, for a title or a route: such a request has no tools.
pub(super) fn is_aside(body: &Value) -> bool {
    body["tools"].as_array().is_none_or(Vec::is_empty)
}

/// Returns the answer to such a request: the prompt itself, or an object of the requested form.
pub(super) fn aside(body: &Value, prompt: &str) -> String {
    let form = &body["generationConfig"]["responseJsonSchema"]["properties"];
    let value = |form: &Value| if form["type"] == "INTEGER" { json!(1) } else { json!(prompt) };
    let object = |form: &Map<String, Value>| {
        let values = form.iter().map(|(name, form)| (name.clone(), value(form)));
        Value::Object(values.collect()).to_string()
    };
    form.as_object().map_or_else(|| prompt.to_owned(), object)
}

/// Returns the answer that proves which prompts arrived.
pub(super) fn answer(prompts: &[String]) -> String {
    let short = |prompt: Option<&String>| -> String {
        prompt
            .map(|prompt| prompt.replace('\n', " ").chars().take(80).collect())
            .unwrap_or_default()
    };
    let (first, last) = (short(prompts.first()), short(prompts.last()));
    format!("FAKE turns={} first='{first}' last='{last}'", prompts.len())
}

/// Returns the value of a directive in a prompt, such as `[[sleep 0.5]]`.
pub(super) fn directive<T: FromStr>(prompt: &str, name: &str) -> Option<T> {
    let (value, _) = prompt.split_once(&format!("[[{name} "))?.1.split_once("]]")?;
    value.parse().ok()
}

/// Returns the user's own words in one message: a string, or blocks with a text.
fn own_words(content: &Value) -> Vec<&str> {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str()).chain(content.as_str());
    texts.map(without_wrappers).filter(|text| !text.is_empty()).collect()
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

/// The events of a stream that are sent at once, up to a pause or the end.
pub(super) type Burst = Vec<Value>;

/// Returns a message with one block, streamed in these parts.
fn messages(model: &Value, parts: &[&str]) -> (Value, Vec<Burst>) {
    let block = |text: &str| json!({"type": "text", "text": text});
    let delta = |text: &&str| json!({"type": "text_delta", "text": text});
    let deltas = parts.iter().map(delta).collect();
    message(model, (block(""), block(&parts.concat())), deltas, "end_turn")
}

/// Returns a message with one block, whole and as a stream. The block is given as it is at the
/// start of the stream, and whole.
pub(super) fn message(
    model: &Value,
    (start, whole): (Value, Value),
    deltas: Vec<Value>,
    stop: &str,
) -> (Value, Vec<Burst>) {
    let id = unique("msg");
    let message = |content: Value, stop: Value| {
        json!({
            "id": id, "type": "message", "role": "assistant", "model": model,
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        })
    };
    let begin = vec![
        json!({"type": "message_start", "message": message(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
    ];
    let burst =
        |delta: Value| vec![json!({"type": "content_block_delta", "index": 0, "delta": delta})];
    let end = vec![
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "usage": {"output_tokens": 5},
            "delta": {"stop_reason": stop, "stop_sequence": null}}),
        json!({"type": "message_stop"}),
    ];
    let bursts = deltas.into_iter().map(burst).collect();
    (message(json!([whole]), json!(stop)), enclosed(begin, bursts, end))
}

/// Returns a response in which every part is an item of its own.
fn responses(model: &Value, parts: &[&str]) -> (Value, Vec<Burst>) {
    let id = unique("resp");
    let response = |status: &str, output: &[Value]| {
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
    let item = |(index, text): (usize, &&str)| {
        let item_id = unique("msg");
        let item = |status: &str, content: Value| {
            json!({"type": "message", "id": item_id, "role": "assistant", "status": status,
                "content": content})
        };
        let done = json!([{"type": "output_text", "text": text, "annotations": []}]);
        let done = item("completed", done);
        let burst = vec![
            json!({"type": "response.output_item.added", "output_index": index,
                "item": item("in_progress", json!([]))}),
            json!({"type": "response.output_text.delta", "item_id": item_id,
                "output_index": index, "content_index": 0, "delta": text}),
            json!({"type": "response.output_item.done", "output_index": index, "item": done}),
        ];
        (done, burst)
    };
    let (items, bursts): (Vec<_>, _) = parts.iter().enumerate().map(item).unzip();
    let completed = response("completed", &items);
    let begin = json!({"type": "response.created", "response": response("in_progress", &[])});
    let end = json!({"type": "response.completed", "response": completed});
    (completed, enclosed(vec![begin], bursts, vec![end]))
}

fn chat(model: &Value, parts: &[&str]) -> (Value, Vec<Burst>) {
    let id = unique("chatcmpl");
    let object = |kind: &str, choice: Value, usage: Value| {
        json!({
            "id": id, "object": kind, "created": 1, "model": model, "choices": [choice],
            "usage": usage,
        })
    };
    let chunk = |delta: Value, finish: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        object("chat.completion.chunk", choice, usage)
    };
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let said = |text: &str| json!({"role": "assistant", "content": text});
    let part = |text: &&str| vec![chunk(said(text), Value::Null, Value::Null)];
    let end = chunk(json!({}), json!("stop"), usage.clone());
    let bursts = enclosed(Vec::new(), parts.iter().map(part).collect(), vec![end]);
    let message = said(&parts.concat());
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    (object("chat.completion", choice, usage), bursts)
}

fn gemini(parts: &[&str]) -> (Value, Vec<Burst>) {
    let id = unique("resp");
    let document = |text: &str, finish: Value| {
        json!({
            "candidates": [{
                "content": {"role": "model", "parts": [{"text": text}]},
                "finishReason": finish, "index": 0,
            }],
            "usageMetadata": {
                "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15,
            },
            "responseId": id,
        })
    };
    let last = parts.len().saturating_sub(1);
    let finish = |index: usize| if index == last { json!("STOP") } else { Value::Null };
    let part = |(index, text): (usize, &&str)| vec![document(text, finish(index))];
    (document(&parts.concat(), json!("STOP")), parts.iter().enumerate().map(part).collect())
}

/// Returns the bursts with `begin` before the first one and `end` after the last one.
fn enclosed(begin: Burst, mut bursts: Vec<Burst>, end: Burst) -> Vec<Burst> {
    if let Some(first) = bursts.first_mut() {
        first.splice(..0, begin);
    }
    if let Some(last) = bursts.last_mut() {
        last.extend(end);
    }
    bursts
}

pub(super) fn unique(prefix: &str) -> String {
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
