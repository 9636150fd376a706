//! Launch profiles: plain values with the same words for all providers. Each provider turns them
//! into arguments, variables and files of its own form. Knows no provider.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sessd_proto::Environment;

use super::Version;

/// The options of one launch, on top of the provider's own settings; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The model, by the provider's own name.
    pub model: Option<String>,
    /// The actions it may take without asking; `None` leaves it to the provider's settings.
    pub permission: Option<Permission>,
    /// Text to append to its own system prompt.
    pub system_prompt: Option<String>,
    /// An agent or profile defined in the provider's own files.
    pub profile: Option<String>,
    /// Further arguments, passed on unchanged.
    pub args: Vec<String>,
    /// Its MCP servers by name, and no others; if empty, its settings decide.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// The variables that the agent sets; the registry adds them to the plan.
    pub env: Environment,
    /// The whole environment that the provider will see.
    pub environment: Environment,
    /// The version of the program that will be started; `None` if it is not known.
    pub version: Option<Version>,
    /// The path prefix of the files of [`super::Launcher::files`]; see [`Launch::file`].
    pub files: PathBuf,
}

impl Launch {
    /// Returns the path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let mut path = self.files.clone().into_os_string();
        path.push(".");
        path.push(name);
        path.into()
    }
}

/// A file that the plans for a launch need. Its name is the argument of [`Launch::file`]; it may
/// contain folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchFile {
    /// A file with this text.
    Text(String, String),
    /// A link to a file or folder.
    Link(String, PathBuf),
    /// A link to a folder, which is created if it does not exist: a CLI cannot create it through a
    /// dangling link.
    Folder(String, PathBuf),
}

/// The actions an agent may take without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It asks before it changes anything; a headless turn cannot ask, so there it may not.
    Ask,
    /// It edits files without asking, and asks before everything else.
    Edit,
    /// It never asks.
    All,
}

impl Permission {
    /// Returns the spelling in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Edit => "edit",
            Self::All => "all",
        }
    }
}

/// An MCP server and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpServer {
    /// A process that speaks on its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables to set; they may hold secrets, so they must not become arguments.
        env: Environment,
        /// The directory to start it in.
        cwd: Option<String>,
    },
    /// A server that speaks streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers to send; they may hold secrets, so they must not become arguments.
        headers: Environment,
    },
}

impl McpServer {
    /// Returns the program of a server and its arguments, for a CLI that starts every server in its
    /// own directory: then a shell changes to the server's directory first.
    #[must_use]
    pub fn command_line(&self) -> (String, Vec<String>) {
        match self {
            Self::Stdio { command, args, cwd: None, .. } => (command.clone(), args.clone()),
            Self::Stdio { command, args, cwd: Some(cwd), .. } => {
                let shell = ["-c", "cd -- \"$0\" && exec \"$@\"", cwd, command].map(str::to_owned);
                ("sh".to_owned(), shell.into_iter().chain(args.clone()).collect())
            }
            Self::Http { .. } => (String::new(), Vec::new()),
        }
    }
}

/// The launch options that a provider supports. The configuration refuses the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// `model`.
    pub model: bool,
    /// These values of `permission`.
    pub permissions: &'static [Permission],
    /// `system_prompt`.
    pub system_prompt: bool,
    /// `profile`.
    pub profile: bool,
    /// `mcp_servers`.
    pub mcp_servers: bool,
}
