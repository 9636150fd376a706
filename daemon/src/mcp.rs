//! Asks an MCP server that talks on its standard streams for its tools. Knows no provider and no
//! session.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use sessd_proto::{Environment, LaunchPlan};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::process::{ChildStdin, ChildStdout};

use crate::runner::Process;

/// From start to end.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a server may say in all, in bytes.
const ANSWERS_MAX: u64 = 8 * 1024 * 1024;

/// Pages of tools that are read.
const PAGES_MAX: usize = 100;

/// The version of the protocol that is spoken; servers agree to it or to an older one.
const VERSION: &str = "2025-06-18";

/// Starts a server, asks for the names of its tools, and ends it.
///
/// # Errors
/// Why they could not be had, to read.
pub(crate) async fn tools(plan: &LaunchPlan, base: &Environment) -> Result<Vec<String>, String> {
    let process = Process::start(plan, base);
    let process = process.map_err(|error| format!("cannot start {}: {error}", plan.program))?;
    let talk = |stdin, stdout| Dialogue::new(stdin, stdout).tools();
    let (tools, stderr) = process.dialogue(DEADLINE, talk).await;
    tools.map_err(|error| match (error.kind(), stderr.lines().last()) {
        (io::ErrorKind::TimedOut, _) => "it did not answer in time".to_owned(),
        (_, Some(last)) => format!("{error}: {last}"),
        (_, None) => error.to_string(),
    })
}

/// Requests and answers, one JSON document a line.
struct Dialogue {
    stdin: ChildStdin,
    answers: BufReader<Take<ChildStdout>>,
    next_id: u64,
}

impl Dialogue {
    fn new(stdin: ChildStdin, stdout: ChildStdout) -> Self {
        Self { stdin, answers: BufReader::new(stdout.take(ANSWERS_MAX)), next_id: 0 }
    }

    async fn tools(mut self) -> io::Result<Vec<String>> {
        let client = json!({ "name": "sessd", "version": env!("CARGO_PKG_VERSION") });
        let hello = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client });
        self.ask("initialize", &hello).await?;
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        let (mut tools, mut page) = (Vec::new(), json!({}));
        for _ in 0..PAGES_MAX {
            let answer = self.ask("tools/list", &page).await?;
            let names = answer["tools"].as_array().into_iter().flatten();
            tools.extend(names.filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
            match answer["nextCursor"].as_str() {
                Some(cursor) => page = json!({ "cursor": cursor }),
                None => break,
            }
        }
        Ok(tools)
    }

    /// Sends a request and waits for its result; whatever else comes is passed over.
    async fn ask(&mut self, method: &str, params: &Value) -> io::Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.say(&request).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.answers.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::Error::other("it ended without an answer"));
            }
            let Ok(mut said) = serde_json::from_slice::<Value>(&line) else { continue };
            if said["id"] != id || said.get("method").is_some() {
                continue;
            }
            if let Some(why) = said.get("error") {
                let why = why["message"].as_str().unwrap_or("an error without a message");
                return Err(io::Error::other(format!("it answers {method} with: {why}")));
            }
            return Ok(said["result"].take());
        }
    }

    async fn say(&mut self, message: &Value) -> io::Result<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a server that is a shell script.
    async fn ask(script: &str) -> Result<Vec<String>, String> {
        let plan = LaunchPlan {
            program: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            cwd: "/".to_owned(),
            ..LaunchPlan::default()
        };
        tools(&plan, &Environment([("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into())).await
    }

    #[tokio::test]
    async fn all_pages_of_tools_are_read_past_whatever_else_is_said_and_nothing_is_left() {
        let script = r#"
            read -r _; echo 'starting up'; echo '{"method":"ping","id":0}'
            echo '{"id":0,"result":{"protocolVersion":"2024-11-05"}}'
            read -r _; read -r _; echo '{"method":"notifications/message","params":{}}'
            echo '{"id":1,"result":{"tools":[{"name":"a"}],"nextCursor":"2"}}'
            read -r page; case $page in *'"cursor":"2"'*)
            sleep 1000 & echo '{"id":2,"result":{"tools":[{"name":"'$!'"}]}}';; esac
            wait"#;
        let tools = ask(script).await.unwrap();
        assert_eq!((&*tools[0], tools.len()), ("a", 2));
        let child = tools[1].parse().unwrap();
        let gone = || crate::process::start_ticks(child).is_none();
        let left = async {
            while !gone() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, left).await.expect("what it has started is ended");
    }

    #[tokio::test]
    async fn what_went_wrong_is_told() {
        let why = ask("echo no key >&2; exit 1").await.unwrap_err();
        assert!(why.ends_with(": no key"), "{why}");
        let refused = r#"read -r _; echo '{"id":0,"error":{"code":-1,"message":"too old"}}'"#;
        let why = ask(refused).await.unwrap_err();
        assert!(why.contains("initialize with: too old"), "{why}");
        let gone = LaunchPlan { program: "/no/such".to_owned(), ..LaunchPlan::default() };
        let why = tools(&gone, &Environment::default()).await.unwrap_err();
        assert!(why.starts_with("cannot start /no/such"), "{why}");
    }
}
