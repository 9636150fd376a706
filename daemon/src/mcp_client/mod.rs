//! Asks an MCP server for its tools, whichever way it talks. Knows no provider and no session.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) mod http;
pub(crate) mod stdio;

/// From start to end.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a server may say in all, in bytes.
const ANSWERS_MAX: u64 = 8 * 1024 * 1024;

/// Pages of tools that are read.
const PAGES_MAX: usize = 100;

/// The version of the protocol that is spoken; servers agree to it or to an older one.
const VERSION: &str = "2025-06-18";

/// Why the tools of a server could not be had, to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It wants to know who asks, or does not like who it is.
    NeedsAuth(String),
    /// Anything else.
    Failed(String),
}

/// A way to talk with a server.
trait Channel {
    /// Sends a request and waits for the message that answers it; whatever else comes is passed
    /// over.
    async fn ask(&mut self, request: &Value) -> io::Result<Value>;

    /// Sends what nobody answers.
    async fn say(&mut self, notification: &Value) -> io::Result<()>;

    /// Takes note of the version that the server wants to speak.
    fn agree(&mut self, version: &str);
}

/// The names of all tools.
async fn tools(channel: &mut impl Channel) -> io::Result<Vec<String>> {
    let client = json!({ "name": "sessd", "version": env!("CARGO_PKG_VERSION") });
    let hello = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client });
    let welcome = ask(channel, 0, "initialize", &hello).await?;
    channel.agree(welcome["protocolVersion"].as_str().unwrap_or(VERSION));
    channel.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
    let mut tools = Vec::new();
    if welcome["capabilities"].as_object().is_some_and(|can| !can.contains_key("tools")) {
        return Ok(tools);
    }
    let mut page = json!({});
    for id in 1..=PAGES_MAX {
        let answer = ask(channel, id, "tools/list", &page).await?;
        let names = answer["tools"].as_array().into_iter().flatten();
        tools.extend(names.filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
        match answer["nextCursor"].as_str() {
            Some(cursor) => page = json!({ "cursor": cursor }),
            None => break,
        }
    }
    Ok(tools)
}

/// The result of a request.
async fn ask(
    channel: &mut impl Channel,
    id: usize,
    method: &str,
    params: &Value,
) -> io::Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut answer = channel.ask(&request).await?;
    if let Some(why) = answer.get("error") {
        let why = why["message"].as_str().unwrap_or("an error without a message");
        return Err(io::Error::other(format!("it answers {method} with: {}", one_line(why))));
    }
    Ok(answer["result"].take())
}

/// Whether a message is the answer to a request.
fn is_answer(message: &Value, request: &Value) -> bool {
    let says = |name| message.get(name).is_some();
    message["id"] == request["id"] && (says("result") || says("error")) && !says("method")
}

/// What a server says, for a line of a table.
fn one_line(said: &str) -> String {
    let words = said.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
