//! Gemini CLI against the model server.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Answer, RealCli, names};
use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::Sandbox;
use crate::tree::files_below;

/// Gemini CLI.
pub struct Gemini;

impl RealCli for Gemini {
    fn cli(&self) -> Cli {
        npm::GEMINI.or_named()
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]) {
        let settings = json!({
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": false},
            "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
            // A named model needs no routing, which would be one more request a turn.
            "model": {"name": "gemini-2.5-flash"},
        });
        sandbox.write(".gemini/settings.json", settings.to_string());
        let trusted: Map<_, _> =
            names(workdirs).map(|path| (path.to_owned(), json!("TRUST_FOLDER"))).collect();
        sandbox.write(".gemini/trustedFolders.json", Value::from(trusted).to_string());
        sandbox.set_env("GEMINI_API_KEY", "key");
        sandbox.set_env("GOOGLE_GEMINI_BASE_URL", server.url());
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        let session = match resumed {
            Some(id) => format!("--resume={id}"),
            None => format!("--session-id={}", Uuid::new_v4()),
        };
        vec!["--output-format=json".to_owned(), session, format!("--prompt={prompt}")]
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let result: Value = serde_json::from_str(stdout).ok()?;
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        Some(Answer { session_id: text("session_id")?, text: text("response")? })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        vec![format!("--resume={id}")]
    }

    fn transcript(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Option<PathBuf> {
        // Its name has only the start of the id, and there may be files without a turn beside it.
        let store = sandbox.home().join(".gemini");
        let projects = fs::read(store.join("projects.json")).ok()?;
        let projects: Value = serde_json::from_slice(&projects).ok()?;
        let slug = projects["projects"][cwd.to_str()?].as_str()?;
        files_below(&store.join("tmp").join(slug).join("chats")).into_iter().find(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.contains(id) && text.contains(r#""type":"gemini""#)
        })
    }
}
