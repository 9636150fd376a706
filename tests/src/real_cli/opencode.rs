//! OpenCode and Kilo, one family, against the model server.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Answer, RealCli, run};
use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::Sandbox;

/// A member of the family.
pub struct OpenCode(Cli);

/// OpenCode.
pub const OPENCODE: OpenCode = OpenCode(npm::OPENCODE);

/// Kilo.
pub const KILO: OpenCode = OpenCode(npm::KILO);

impl RealCli for OpenCode {
    fn cli(&self) -> Cli {
        self.0.or_named()
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, _: &[&Path]) {
        let name = self.0.name;
        let settings = json!({
            "model": "test/test-model",
            "small_model": "test/test-model",
            "autoupdate": false,
            "share": "disabled",
            "provider": {"test": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": format!("{}/v1", server.url()), "apiKey": "key"},
                "models": {"test-model": {"name": "Test"}, "other-model": {"name": "Other"}},
            }},
        });
        sandbox.write(&format!(".config/{name}/{name}.json"), settings.to_string());
        let prefix = name.to_uppercase();
        for switch in ["DISABLE_AUTOUPDATE", "DISABLE_MODELS_FETCH", "DISABLE_SHARE"] {
            sandbox.set_env(&format!("{prefix}_{switch}"), "1");
        }
        sandbox.set_env("KILO_TELEMETRY_LEVEL", "off");
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        // Without a title of its own a session costs one more request.
        let session = match resumed {
            Some(id) => format!("--session={id}"),
            None => format!("--title={prompt}"),
        };
        let words = ["run".to_owned(), "--format=json".to_owned(), session];
        // An argument with a blank in it would be put in quotes.
        words.into_iter().chain(prompt.split(' ').map(str::to_owned)).collect()
    }

    fn fork_arguments(&self, id: &str, prompt: &str) -> Option<Vec<String>> {
        let mut words = self.one_shot_arguments(Some(id), prompt);
        words.insert(1, "--fork".to_owned());
        Some(words)
    }

    fn commands_with_help(&self) -> &'static [&'static [&'static str]] {
        &[&[], &["run"]]
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let events: Vec<Value> =
            stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let session_id = events.first()?["sessionID"].as_str()?.to_owned();
        let said = events.iter().rfind(|event| event["type"] == "text")?;
        Some(Answer { session_id, text: said["part"]["text"].as_str()?.to_owned() })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        vec![format!("--session={id}")]
    }

    /// The database, if it has such a row.
    fn transcript(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Option<PathBuf> {
        let name = self.0.name;
        let query = format!("SELECT id FROM session WHERE id = '{id}'");
        let arguments = ["db", "--format=json", &query].map(str::to_owned);
        let found = run(self.0, sandbox, cwd, &arguments);
        let path = sandbox.home().join(format!(".local/share/{name}/{name}.db"));
        found.stdout.contains(id).then_some(path)
    }

    fn forget(&self, sandbox: &Sandbox, cwd: &Path, id: &str) {
        let arguments = ["session", "delete", id].map(str::to_owned);
        let deleted = run(self.0, sandbox, cwd, &arguments);
        assert_eq!(deleted.status, 0, "{deleted:#?}");
    }
}
