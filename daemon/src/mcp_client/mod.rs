//! Lists the tools of an MCP server, over its standard streams or over HTTP. Knows no provider
//! and no session.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) mod http;
pub(crate) mod stdio;

/// Limit for one server, from start to end.
const DEADLINE: Duration = Duration::from_secs(20);

/// Limit for all responses of a server together, in bytes.
const RESPONSE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Limit for pages of tools.
const PAGES_MAX: usize = 100;

/// The protocol version offered; a server accepts it or names an older one.
const VERSION: &str = "2025-06-18";

/// Why the tools of a server could not be listed, as text for the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server requires authentication, or refused it.
    NeedsAuth(String),
    /// Anything else.
    Failed(String),
}

/// A connection to a server.
trait Channel {
    /// Sends a request and returns the response to it; other messages are skipped.
    async fn ask(&mut self, request: &Value) -> io::Result<Value>;

    /// Sends a notification, which has no response.
    async fn say(&mut self, notification: &Value) -> io::Result<()>;

    /// Sets the protocol version that the server has chosen.
    fn agree(&mut self, version: &str);
}

/// Returns the names of all tools.
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

/// Sends a request and returns its result.
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
        return Err(io::Error::other(format!("the server refused {method}: {}", one_line(why))));
    }
    Ok(answer["result"].take())
}

/// True if a message is the response to a request.
fn is_answer(message: &Value, request: &Value) -> bool {
    let has = |name| message.get(name).is_some();
    message["id"] == request["id"] && (has("result") || has("error")) && !has("method")
}

/// Returns a server's text on one line, without control characters.
fn one_line(said: &str) -> String {
    let words = said.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
