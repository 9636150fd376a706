//! Tool calls in the four wire formats. Knows no tool.

use serde_json::{Value, json};

use super::Recorded;
use super::dialect::{Burst, Dialect, message, unique};
use super::http::Response;

/// A call of a tool, which may be in a namespace, with its arguments as JSON and as text.
struct Call<'a> {
    space: Option<&'a str>,
    tool: &'a str,
    input: Value,
    text: &'a str,
}

impl Dialect {
    /// Returns the response that calls a tool (`tool`, `space::tool`), or one that first loads it;
    /// `None` if the request has the tool's result already or does not offer it.
    pub(super) fn call(self, request: &Recorded, call: &str) -> Option<Response> {
        let (tool, text) = call.split_once(' ').unwrap_or((call, "{}"));
        let spaced = tool.split_once("::");
        let (space, tool) = spaced.map_or((None, tool), |(space, tool)| (Some(space), tool));
        let body = &request.body;
        let mut call = Call { space, tool, text, input: serde_json::from_str(text).ok()? };
        let (history, result) = match self {
            Self::Messages => ("messages", "tool_result"),
            Self::Responses => ("input", "function_call_output"),
            Self::Chat => ("messages", "\"role\":\"tool\""),
            Self::Gemini => ("contents", "functionResponse"),
        };
        let last = last(&body[history]);
        if last.contains(result) && !last.contains(LOADED) {
            return None;
        }
        if let Some(load) = self.load(request, tool) {
            return Some(load);
        }
        // Some CLIs name most tools only in a message to the model, Qwen Code with a tool that
        // calls any of them.
        let is_named = matches!(self, Self::Chat) && body[history].to_string().contains(tool);
        let is_offered_itself = is_offered(body, tool);
        if !(is_offered_itself || is_named) {
            return None;
        }
        let bridged = json!({"name": tool, "arguments": call.input}).to_string();
        if !is_offered_itself && is_offered(body, BRIDGE) {
            call = Call { tool: BRIDGE, input: Value::Null, text: &bridged, ..call };
        }
        let burst = match self {
            Self::Messages => return Some(Response::events(&messages(&body["model"], &call))),
            Self::Responses => responses(&body["model"], &call),
            Self::Chat => chat(&body["model"], &call),
            Self::Gemini => gemini(&call),
        };
        Some(Response::events(&[burst]))
    }

    /// Returns the response that loads tools (`tool,tool`); `None` unless the request has only
    /// their names, as Claude Code does with those of MCP servers.
    pub(super) fn load(self, request: &Recorded, tools: &str) -> Option<Response> {
        let body = &request.body;
        let loads = matches!(self, Self::Messages)
            && is_offered(body, SEARCH)
            && !last(&body["messages"]).contains("\"tool_result\"");
        let named = if loads { body["messages"].to_string() } else { String::new() };
        let is_named = |tool: &&str| named.contains(&format!("\\n{tool}\\n"));
        let tools: Vec<_> = tools.split(',').filter(|tool| !is_offered(body, tool)).collect();
        let tools: Vec<_> = tools.into_iter().filter(is_named).collect();
        if tools.is_empty() {
            return None;
        }
        let input = json!({"query": format!("select:{}", tools.join(","))});
        let text = input.to_string();
        let call = Call { space: None, tool: SEARCH, text: &text, input };
        Some(Response::events(&messages(&body["model"], &call)))
    }
}

/// The tool that loads others.
const SEARCH: &str = "ToolSearch";

/// The tool that calls others, which Qwen Code has.
const BRIDGE: &str = "tool_call";

/// A word of the result of the first.
const LOADED: &str = "\"tool_reference\"";

/// Returns the last message, without the notes of the CLI that may follow it.
fn last(history: &Value) -> String {
    let messages = history.as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.iter().rfind(|message| message["role"] != "system");
    last.map(Value::to_string).unwrap_or_default()
}

fn is_offered(body: &Value, tool: &str) -> bool {
    body["tools"].to_string().contains(&format!("\"name\":\"{tool}\""))
}

fn messages(model: &Value, call: &Call<'_>) -> Vec<Burst> {
    let id = unique("toolu");
    let block =
        |input: Value| json!({"type": "tool_use", "id": id, "name": call.tool, "input": input});
    let delta = json!({"type": "input_json_delta", "partial_json": call.text});
    message(model, (block(json!({})), block(call.input.clone())), vec![delta], "tool_use").1
}

fn responses(model: &Value, call: &Call<'_>) -> Burst {
    let (item_id, call_id) = (unique("fc"), unique("call"));
    let item = |status: &str, arguments: &str| {
        json!({"type": "function_call", "id": item_id, "call_id": call_id, "name": call.tool,
            "namespace": call.space, "arguments": arguments, "status": status})
    };
    let done = item("completed", call.text);
    let usage = json!({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15});
    let response = |status: &str, output: Value| {
        json!({"id": "resp", "object": "response", "created_at": 0, "model": model,
            "status": status, "output": output, "usage": usage})
    };
    vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]))}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": item("in_progress", "")}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
        json!({"type": "response.completed", "response": response("completed", json!([done]))}),
    ]
}

fn chat(model: &Value, call: &Call<'_>) -> Burst {
    let function = json!({"name": call.tool, "arguments": call.text});
    let calls = json!([{"index": 0, "id": unique("call"), "type": "function",
        "function": function}]);
    let chunk = |delta: Value, finish: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": "chatcmpl", "object": "chat.completion.chunk", "created": 1, "model": model,
            "choices": [choice], "usage": usage})
    };
    let delta = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    vec![chunk(delta, Value::Null, Value::Null), chunk(json!({}), json!("tool_calls"), usage)]
}

fn gemini(call: &Call<'_>) -> Burst {
    let parts = json!([{"functionCall": {"name": call.tool, "args": call.input}}]);
    let content = json!({"role": "model", "parts": parts});
    vec![json!({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]})]
}
