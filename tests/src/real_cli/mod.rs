//! The real provider CLIs, set up against the model server and used as a person would use them. The
//! tests compare sessd with them. Knows nothing of sessd.

mod claude;
mod codex;
mod cursor;
mod gemini;
mod opencode;
mod qwen;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use claude::Claude;
pub use codex::Codex;
pub use cursor::Cursor;
pub use gemini::Gemini;
pub use opencode::{KILO, OPENCODE};
pub use qwen::Qwen;

use crate::model_server::ModelServer;
use crate::npm::{self, Cli};
use crate::sandbox::{Output, Sandbox};
use crate::terminal::{Key, Terminal};
use crate::wait::{DEADLINE, pause, poll, wait_until};

/// Every real CLI that the tests drive.
pub const ALL: [&dyn RealCli; 6] = [&Claude, &Codex, &Gemini, &OPENCODE, &KILO, &Qwen];

/// The time a person waits before pressing a key again.
const KEY_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a one-shot run.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The provider's own id of the session.
    pub session_id: String,
    /// The model's text.
    pub text: String,
}

/// A real provider CLI.
pub trait RealCli: Sync {
    /// Returns its program and version: its pin, unless the environment names another.
    fn cli(&self) -> Cli;

    /// Returns the id of its provider in sessd.
    fn provider(&self) -> &'static str {
        self.cli().name
    }

    /// Writes the settings that it would ask for at a first start, and sets the variables that
    /// point it to the server: no login, no trust question, no telemetry, no updates, no retries.
    fn configure(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]);

    /// Returns the arguments of a one-shot run: a new session, or one more turn of an old one.
    fn one_shot_arguments(&self, resumed: Option<&str>, prompt: &str) -> Vec<String>;

    /// Returns the arguments of a one-shot run that streams its events.
    fn stream_arguments(&self, prompt: &str) -> Vec<String> {
        let arguments = self.one_shot_arguments(None, prompt).into_iter();
        arguments
            .map(|it| it.replace("--output-format=json", "--output-format=stream-json"))
            .collect()
    }

    /// Returns the arguments of a one-shot run in a copy of a session, if it has such options.
    fn fork_arguments(&self, _id: &str, _prompt: &str) -> Option<Vec<String>> {
        None
    }

    /// Returns the commands whose help matters to sessd, each as words.
    fn commands_with_help(&self) -> &'static [&'static [&'static str]] {
        &[&[]]
    }

    /// Parses the output of a one-shot run; `None` if the run failed.
    fn parse(&self, stdout: &str) -> Option<Answer>;

    /// Returns the arguments that open a session full-screen.
    fn tui_arguments(&self, id: &str) -> Vec<String>;

    /// Returns the path of a session's transcript, if it is there.
    fn transcript(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Option<PathBuf>;

    /// Deletes a session as a person would.
    fn forget(&self, sandbox: &Sandbox, cwd: &Path, id: &str) {
        let transcript = self.transcript(sandbox, cwd, id).expect("a session that is there");
        fs::remove_file(transcript).expect("our own file");
    }

    /// Installs it and makes it run in the sandbox without a question, in these directories.
    /// False if it cannot be installed here; the test must then end, as skipped.
    fn prepare(&self, sandbox: &mut Sandbox, server: &ModelServer, workdirs: &[&Path]) -> bool {
        self.prepare_at(self.cli(), sandbox, server, workdirs)
    }

    /// The same at one of its versions.
    fn prepare_at(
        &self,
        cli: Cli,
        sandbox: &mut Sandbox,
        server: &ModelServer,
        workdirs: &[&Path],
    ) -> bool {
        let Some(installed) = npm::install(&cli) else { return false };
        sandbox.link(cli.name, &installed.program);
        self.configure(sandbox, server, workdirs);
        true
    }

    /// Runs one prompt in a new session.
    fn one_shot(&self, sandbox: &Sandbox, cwd: &Path, prompt: &str) -> Answer {
        self.answer(run(self.cli(), sandbox, cwd, &self.one_shot_arguments(None, prompt)))
    }

    /// Runs one prompt in an old session.
    fn one_shot_resume(&self, sandbox: &Sandbox, cwd: &Path, id: &str, prompt: &str) -> Answer {
        self.answer(run(self.cli(), sandbox, cwd, &self.one_shot_arguments(Some(id), prompt)))
    }

    /// Opens a session in a terminal.
    fn tui_resume(&self, sandbox: &Sandbox, cwd: &Path, id: &str) -> Terminal {
        let mut command = sandbox.command(self.cli().name);
        command.args(self.tui_arguments(id)).current_dir(cwd);
        Terminal::spawn(command, 40, 120)
    }

    /// Sends a prompt in a terminal as a person does: not before it is seen in the input field,
    /// because some drop what is typed while they start.
    fn prompt(&self, terminal: &Terminal, prompt: &str) {
        let seen = || terminal.screen().matches(prompt).count();
        let before = seen();
        wait_until("the prompt in the input field", DEADLINE, || {
            terminal.key(Key::CtrlU);
            terminal.type_text(prompt);
            poll(KEY_INTERVAL, || (seen() > before).then_some(()))
        });
        // An Enter that follows faster than a person types is taken for a pasted line break.
        pause(Duration::from_millis(200));
        terminal.key(Key::Enter);
    }

    /// Quits a CLI in a terminal as a person does: Ctrl-C until it warns, and once more. Does both
    /// again if it does not end, as some miss the second Ctrl-C while they draw the warning.
    fn quit(&self, terminal: &mut Terminal) {
        wait_until("the end", DEADLINE, || {
            poll(DEADLINE, || {
                terminal.key(Key::CtrlC);
                poll(KEY_INTERVAL, || {
                    let warned = terminal.screen().to_lowercase().contains("again to");
                    (warned || terminal.has_exited()).then_some(())
                })
            });
            terminal.key(Key::CtrlC);
            poll(10 * KEY_INTERVAL, || terminal.has_exited().then_some(()))
        });
        let status = terminal.wait_exit(DEADLINE);
        // If the CLI has already reset the terminal, the last Ctrl-C is a signal.
        let interrupted = status.signal() == Some(2);
        assert!(
            status.success() || interrupted,
            "{} ended with {status}:\n{}",
            self.cli().name,
            terminal.screen()
        );
    }

    /// Returns the answer of a run; panics if it failed.
    fn answer(&self, output: Output) -> Answer {
        let answer = if output.status == 0 { self.parse(&output.stdout) } else { None };
        answer.unwrap_or_else(|| panic!("{} failed: {output:#?}", self.cli().name))
    }
}

fn run(cli: Cli, sandbox: &Sandbox, cwd: &Path, arguments: &[String]) -> Output {
    sandbox.run(sandbox.command(cli.name).args(arguments).current_dir(cwd), DEADLINE)
}

/// Returns the paths in the form in which a CLI's settings have them.
fn names<'a>(workdirs: &'a [&Path]) -> impl Iterator<Item = &'a str> {
    workdirs.iter().map(|path| path.to_str().expect("a UTF-8 path"))
}
