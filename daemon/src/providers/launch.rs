//! What a launch profile asks of a provider: plain values, the same words for all of them. Each
//! provider turns them into arguments, variables and files of its own form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sessd_proto::Environment;

/// What is asked of a provider beyond its own settings; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The model, in the provider's own words.
    pub model: Option<String>,
    /// What it may do without asking; `None` leaves it to the provider's settings.
    pub permission: Option<Permission>,
    /// What it is told besides its own system prompt.
    pub system_prompt: Option<String>,
    /// An agent or profile that the provider's own files define.
    pub profile: Option<String>,
    /// More arguments, as they are.
    pub args: Vec<String>,
    /// The MCP servers it shall have and no others, by name; none leaves it to its settings.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Variables to set; the registry does it.
    pub env: Environment,
    /// Every variable that the provider will see.
    pub environment: Environment,
    /// Where the files of [`super::Provider::launch_files`] are, each at [`Launch::file`].
    pub files: PathBuf,
}

impl Launch {
    /// Where one of its files is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let mut path = self.files.clone().into_os_string();
        path.push(".");
        path.push(name);
        path.into()
    }
}

/// A file that the plans for a launch need. Its name is for [`Launch::file`], and may have
/// folders in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchFile {
    /// One that holds this text.
    Text(String, String),
    /// A link to something else.
    Link(String, PathBuf),
    /// A link to a folder, which is made if it is not there: nothing can be made behind a link.
    Folder(String, PathBuf),
}

/// What an agent may do without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It asks before it changes anything; where nobody can answer, it may not.
    Ask,
    /// It edits files, and asks before everything else.
    Edit,
    /// Everything.
    All,
}

impl Permission {
    /// The spelling in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Edit => "edit",
            Self::All => "all",
        }
    }
}

/// A tool server, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpServer {
    /// A process that talks on its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables to set; they may hold secrets, so they belong into no argument.
        env: Environment,
        /// Where to start it.
        cwd: Option<String>,
    },
    /// A server that speaks streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Headers to send; they may hold secrets, so they belong into no argument.
        headers: Environment,
    },
}

impl McpServer {
    /// The program of a server and its arguments, for providers that start all of them in their
    /// own directory: then a shell goes to the server's.
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

/// What a provider can be asked for. The configuration refuses the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// A model.
    pub model: bool,
    /// These permissions.
    pub permissions: &'static [Permission],
    /// More of a system prompt.
    pub system_prompt: bool,
    /// An agent or profile of its own.
    pub profile: bool,
    /// MCP servers.
    pub mcp_servers: bool,
}
