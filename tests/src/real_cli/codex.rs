//! Codex against the model server.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Answer, RealCli, names};
use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::Sandbox;
use crate::tree::files_below;

/// Codex.
pub struct Codex;

impl RealCli for Codex {
    fn cli(&self) -> Cli {
        npm::CODEX.or_named()
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]) {
        let mut settings = format!(
            "model = 'test-model'\n\
             model_provider = 'test'\n\
             check_for_update_on_startup = false\n\
             [analytics]\n\
             enabled = false\n\
             [model_providers.test]\n\
             name = 'test'\n\
             base_url = '{}/v1'\n\
             env_key = 'E2E_CODEX_KEY'\n\
             wire_api = 'responses'\n\
             request_max_retries = 0\n\
             stream_max_retries = 0\n",
            server.url(),
        );
        for path in names(workdirs) {
            settings += &format!("[projects.'{path}']\ntrust_level = 'trusted'\n");
        }
        sandbox.write(".codex/config.toml", settings);
        sandbox.set_env("E2E_CODEX_KEY", "key");
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        let mut arguments = vec!["exec"];
        arguments.extend(resumed.map(|_| "resume"));
        arguments.extend(["--json", "--skip-git-repo-check", "--"]);
        arguments.extend(resumed);
        arguments.push(prompt);
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn fork_arguments(&self, id: &str, prompt: &str) -> Option<Vec<String>> {
        let words = ["exec", "fork", "--json", "--skip-git-repo-check", id, prompt];
        Some(words.map(str::to_owned).into())
    }

    fn commands_with_help(&self) -> &'static [&'static [&'static str]] {
        &[&[], &["exec"], &["exec", "resume"], &["resume"]]
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let events: Vec<Value> =
            stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let session_id = events.iter().find_map(|event| event["thread_id"].as_str())?.to_owned();
        let said = |event: &&Value| event["item"]["type"] == "agent_message";
        let text = events.iter().rfind(said)?["item"]["text"].as_str()?.to_owned();
        Some(Answer { session_id, text })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        ["resume", "--no-daemon", id].map(str::to_owned).into()
    }

    fn transcript(&self, sandbox: &Sandbox, _: &Path, id: &str) -> Option<PathBuf> {
        let end = format!("-{id}.jsonl");
        let files = files_below(&sandbox.home().join(".codex/sessions"));
        files.into_iter().find(|path| path.to_str().is_some_and(|path| path.ends_with(&end)))
    }
}
