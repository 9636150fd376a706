//! Asks the tests' model server. Knows no store.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// Returns the model's answer to a conversation, or the failure of the call.
pub(crate) fn ask(messages: Vec<(String, String)>, model: &str) -> Result<String, String> {
    let endpoint = env::var("CURSOR_API_ENDPOINT").unwrap_or_default();
    let host = endpoint.trim_start_matches("http://");
    let messages: Vec<Value> = messages
        .into_iter()
        .map(|(role, content)| json!({ "role": role, "content": content }))
        .collect();
    let tools = json!([{ "type": "function", "function": { "name": "read" } }]);
    let body = json!({ "model": model, "messages": messages, "tools": tools, "stream": true });
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut response = String::new();
    TcpStream::connect(host)
        .and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut response)
        })
        .map_err(|error| format!("ConnectError: [unavailable] {error}"))?;
    // The lines that frame the chunks of a body are not events.
    let events = response.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = events.filter_map(|it| serde_json::from_str(it).ok()).collect();
    let choices = || events.iter().map(|event| &event["choices"][0]);
    let text: String = choices().filter_map(|it| it["delta"]["content"].as_str()).collect();
    let is_whole = choices().any(|choice| choice["finish_reason"] == "stop");
    let status = response.split(' ').nth(1).unwrap_or("no status");
    let code = match status {
        "401" => "unauthenticated",
        "403" => "permission_denied",
        "404" => "not_found",
        "429" => "resource_exhausted",
        "500" => "internal",
        "503" | "529" => "unavailable",
        _ => "unknown",
    };
    match (is_whole, text.is_empty()) {
        (true, _) => Ok(text),
        (_, true) => Err(format!("ConnectError: [{code}] the service says {status}")),
        (_, false) => Err("ConnectError: [unavailable] the stream has broken off".to_owned()),
    }
}
