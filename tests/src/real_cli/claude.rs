//! Claude Code against the model server.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Answer, RealCli, names};
use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::Sandbox;

/// Claude Code.
pub struct Claude;

const KEY: &str = "key-of-the-end-to-end-tests";

impl RealCli for Claude {
    fn cli(&self) -> Cli {
        npm::CLAUDE.or_named()
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]) {
        let trusted = json!({"hasTrustDialogAccepted": true});
        let projects: Map<_, _> =
            names(workdirs).map(|path| (path.to_owned(), trusted.clone())).collect();
        let settings = json!({
            "hasCompletedOnboarding": true,
            "theme": "dark",
            // It recognises an approved key by the last 20 characters.
            "customApiKeyResponses": {"approved": [&KEY[KEY.len() - 20..]], "rejected": []},
            "projects": projects,
        });
        sandbox.write(".claude.json", settings.to_string());
        sandbox.set_env("ANTHROPIC_BASE_URL", server.url());
        sandbox.set_env("ANTHROPIC_API_KEY", KEY);
        sandbox.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
        for switch in [
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_AUTOUPDATER",
            "DISABLE_ERROR_REPORTING",
            "DISABLE_TELEMETRY",
        ] {
            sandbox.set_env(switch, "1");
        }
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        let session = match resumed {
            Some(id) => format!("--resume={id}"),
            None => format!("--session-id={}", Uuid::new_v4()),
        };
        ["-p", "--output-format=json", &session, "--", prompt].map(str::to_owned).into()
    }

    fn stream_arguments(&self, prompt: &str) -> Vec<String> {
        ["-p", "--output-format=stream-json", "--verbose", "--", prompt].map(str::to_owned).into()
    }

    fn fork_arguments(&self, id: &str, prompt: &str) -> Option<Vec<String>> {
        let session = format!("--resume={id}");
        let words = ["-p", "--output-format=json", &session, "--fork-session", "--", prompt];
        Some(words.map(str::to_owned).into())
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let result: Value = serde_json::from_str(stdout).ok()?;
        (result["is_error"] == false).then_some(())?;
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        Some(Answer { session_id: text("session_id")?, text: text("result")? })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        vec![format!("--resume={id}")]
    }

    fn transcript(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Option<PathBuf> {
        let folder = cwd.to_str()?.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let path = sandbox.home().join(format!(".claude/projects/{folder}/{id}.jsonl"));
        path.is_file().then_some(path)
    }
}
