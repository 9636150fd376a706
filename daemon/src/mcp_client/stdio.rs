//! Talks to an MCP server over its standard streams, one JSON document per line. Knows no method
//! of the protocol.

use std::io;

use serde_json::Value;
use sessd_proto::{Environment, LaunchPlan};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::process::{ChildStdin, ChildStdout};

use super::{Channel, DEADLINE, RESPONSE_BYTES_MAX, Refusal, is_answer};
use crate::runner::Process;

/// Starts a server, lists its tools, and ends it.
///
/// # Errors
/// Fails if the server cannot be started, refuses, exits early or takes too long.
pub(crate) async fn tools(plan: &LaunchPlan, base: &Environment) -> Result<Vec<String>, Refusal> {
    let process = Process::start(plan, base)
        .map_err(|error| Refusal::Failed(format!("cannot start {}: {error}", plan.program)))?;
    let talk = async |stdin, stdout| super::tools(&mut Streams::new(stdin, stdout)).await;
    let (tools, stderr) = process.dialogue(DEADLINE, talk).await;
    let why = |error: io::Error| match (error.kind(), stderr.lines().last()) {
        (io::ErrorKind::TimedOut, _) => "the server did not answer in time".to_owned(),
        (_, Some(last)) => format!("{error}: {last}"),
        (_, None) => error.to_string(),
    };
    tools.map_err(|error| Refusal::Failed(why(error)))
}

/// The standard streams of a server.
struct Streams {
    stdin: ChildStdin,
    answers: BufReader<Take<ChildStdout>>,
}

impl Streams {
    fn new(stdin: ChildStdin, stdout: ChildStdout) -> Self {
        Self { stdin, answers: BufReader::new(stdout.take(RESPONSE_BYTES_MAX)) }
    }
}

impl Channel for Streams {
    async fn ask(&mut self, request: &Value) -> io::Result<Value> {
        self.say(request).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.answers.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::Error::other("the server exited without answering"));
            }
            match serde_json::from_slice(&line) {
                Ok(message) if is_answer(&message, request) => return Ok(message),
                _ => {}
            }
        }
    }

    async fn say(&mut self, message: &Value) -> io::Result<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await
    }

    fn agree(&mut self, _version: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists the tools of a server that is a shell script.
    async fn ask(script: &str) -> Result<Vec<String>, Refusal> {
        let plan = LaunchPlan {
            program: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            cwd: "/".to_owned(),
            ..LaunchPlan::default()
        };
        tools(&plan, &Environment([("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into())).await
    }

    #[tokio::test]
    async fn all_pages_are_read_and_no_process_is_left() {
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
        tokio::time::timeout(DEADLINE, left).await.expect("its child is ended");
    }

    fn why(asked: Result<Vec<String>, Refusal>) -> String {
        match asked {
            Err(Refusal::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn failures_are_explained() {
        let said = why(ask("echo no key >&2; exit 1").await);
        assert!(said.ends_with(": no key"), "{said}");
        let refused = r#"read -r _; echo '{"id":0,"error":{"code":-1,"message":"too old"}}'"#;
        let said = why(ask(refused).await);
        assert!(said.contains("refused initialize: too old"), "{said}");
        let gone = LaunchPlan { program: "/no/such".to_owned(), ..LaunchPlan::default() };
        let said = why(tools(&gone, &Environment::default()).await);
        assert!(said.starts_with("cannot start /no/such"), "{said}");
    }
}
