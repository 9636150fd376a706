//! One question to the tests' model server. Knows no store.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// What the model answers to a conversation, or how the call failed.
pub(crate) fn ask(messages: Vec<(String, String)>, model: &str) -> Result<String, String> {
    let endpoint = env::var("CURSOR_API_ENDPOINT").unwrap_or_default();
    let host = endpoint.trim_start_matches("http://");
    let messages: Vec<Value> = messages
        .into_iter()
        .map(|(role, content)| json!({ "role": role, "content": content }))
        .collect();
    let tools = json!([{ "type": "function", "function": { "name": "read" } }]);
    let body = json!({ "model": model, "messages": messages, "tools": tools }).to_string();
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
        .map_err(|error| format!("ActionRequiredError: {error}"))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or("no status");
    let text = answer["choices"][0]["message"]["content"].as_str();
    text.map(str::to_owned).ok_or_else(|| format!("ActionRequiredError: the service says {status}"))
}
