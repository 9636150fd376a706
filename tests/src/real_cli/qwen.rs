//! Qwen Code against the model server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, RealCli};
use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::Sandbox;

/// Qwen Code.
pub struct Qwen;

impl RealCli for Qwen {
    fn cli(&self) -> Cli {
        npm::QWEN.or_named()
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, _workdirs: &[&Path]) {
        let settings = json!({
            // The version of the settings format that this CLI writes; it would rewrite any other.
            "$version": 4,
            "security": {"auth": {"selectedType": "openai"}},
            "privacy": {"usageStatisticsEnabled": false},
            "general": {"enableAutoUpdate": false, "disableAutoUpdate": true},
            // It would ask the model what is worth remembering, after every turn.
            "memory": {"enableManagedAutoMemory": false, "enableManagedAutoDream": false},
        });
        sandbox.write(".qwen/settings.json", settings.to_string());
        sandbox.set_env("OPENAI_API_KEY", "key");
        sandbox.set_env("OPENAI_BASE_URL", format!("{}/v1", server.url()));
        sandbox.set_env("OPENAI_MODEL", "test-model");
        // It would ask the model for a title in a terminal.
        sandbox.set_env("QWEN_DISABLE_AUTO_TITLE", "1");
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        let session = match resumed {
            Some(id) => format!("--resume={id}"),
            None => format!("--session-id={}", Uuid::new_v4()),
        };
        vec!["--output-format=json".to_owned(), session, format!("--prompt={prompt}")]
    }

    fn fork_arguments(&self, id: &str, prompt: &str) -> Option<Vec<String>> {
        let (session, prompt) = (format!("--resume={id}"), format!("--prompt={prompt}"));
        let words = ["--output-format=json", &session, "--fork-session", &prompt];
        Some(words.map(str::to_owned).into())
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let lines: Vec<Value> = serde_json::from_str(stdout).ok()?;
        let result = lines.iter().rfind(|line| line["type"] == "result")?;
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        // It reports a failed call as a success with this text.
        let text_of_model = text("result").filter(|text| !text.starts_with("[API Error: "))?;
        Some(Answer { session_id: text("session_id")?, text: text_of_model })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        vec![format!("--resume={id}")]
    }

    fn transcript(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Option<PathBuf> {
        let folder = cwd.to_str()?.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let path = sandbox.home().join(format!(".qwen/projects/{folder}/chats/{id}.jsonl"));
        path.is_file().then_some(path)
    }
}
