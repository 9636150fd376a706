//! Our stand-in for the Cursor CLI against the model server.

use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use super::{Answer, RealCli, names};
use crate::model_server::ModelServer;
use crate::npm::Cli;
use crate::sandbox::Sandbox;
use crate::terminal::{Key, Terminal};
use crate::tree::files_below;
use crate::wait::DEADLINE;

/// The stand-in, at the path that only the test targets know: `CARGO_BIN_EXE_cursor-agent`.
pub struct Cursor {
    /// The program.
    pub program: &'static str,
}

impl RealCli for Cursor {
    fn cli(&self) -> Cli {
        let (name, version) = ("cursor-agent", "2026.10.01-standin");
        Cli { name, package: "", version, before: None }
    }

    fn provider(&self) -> &'static str {
        "cursor"
    }

    fn prepare_at(
        &self,
        _: Cli,
        sandbox: &mut Sandbox,
        server: &ModelServer,
        workdirs: &[&Path],
    ) -> bool {
        sandbox.link(self.cli().name, Path::new(self.program));
        self.configure(sandbox, server, workdirs);
        true
    }

    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]) {
        for path in names(workdirs) {
            let slug = path.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            sandbox.dir(&format!(".cursor/projects/{}/.trusted", slug.trim_start_matches('-')));
        }
        sandbox.set_env("CURSOR_API_KEY", "key");
        sandbox.set_env("CURSOR_API_ENDPOINT", server.url());
    }

    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String> {
        let session = match resumed {
            Some(id) => format!("--resume={id}"),
            None => format!("--new-session-id={}", Uuid::new_v4()),
        };
        ["-p", "--output-format=json", &session, "--", prompt].map(str::to_owned).into()
    }

    fn parse(&self, stdout: &str) -> Option<Answer> {
        let result: Value = serde_json::from_str(stdout).ok()?;
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        Some(Answer { session_id: text("session_id")?, text: text("result")? })
    }

    fn tui_arguments(&self, id: &str) -> Vec<String> {
        vec![format!("--resume={id}")]
    }

    fn quit(&self, terminal: &mut Terminal) {
        terminal.key(Key::CtrlD);
        assert!(terminal.wait_exit(DEADLINE).success(), "{}", terminal.screen());
    }

    fn transcript(&self, sandbox: &Sandbox, _: &Path, id: &str) -> Option<PathBuf> {
        let end = format!("{id}/store.db");
        let files = files_below(&sandbox.home().join(".cursor/chats"));
        files.into_iter().find(|path| path.to_str().is_some_and(|path| path.ends_with(&end)))
    }
}
