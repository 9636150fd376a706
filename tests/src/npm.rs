//! The real provider CLIs at their pinned versions, installed once into the shared cache, where
//! each version has a directory of its own. Does not know how they are used.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::{cache, report};

/// A provider CLI as npm distributes it.
#[derive(Clone, Copy, Debug)]
pub struct Cli {
    /// The program's name on `PATH`.
    pub name: &'static str,
    /// The npm package.
    pub package: &'static str,
    /// The version that the tests run.
    pub version: &'static str,
    /// The pin before this one, which the long suite runs too where old sessions matter.
    pub before: Option<&'static str>,
}

/// Claude Code.
pub const CLAUDE: Cli = Cli {
    name: "claude",
    package: "@anthropic-ai/claude-code",
    version: "2.1.332",
    before: Some("2.1.197"),
};
/// Codex.
pub const CODEX: Cli =
    Cli { name: "codex", package: "@openai/codex", version: "0.171.0", before: Some("0.169.0") };
/// Gemini CLI.
pub const GEMINI: Cli =
    Cli { name: "gemini", package: "@google/gemini-cli", version: "0.61.0", before: None };
/// Qwen Code.
pub const QWEN: Cli = Cli {
    name: "qwen",
    package: "@qwen-code/qwen-code",
    version: "0.24.4",
    before: Some("0.15.10"),
};
/// OpenCode.
pub const OPENCODE: Cli =
    Cli { name: "opencode", package: "opencode-ai", version: "1.18.33", before: None };
/// Kilo. The packages with the Linux programs of 7.8.1 are not in the registry.
pub const KILO: Cli =
    Cli { name: "kilo", package: "@kilocode/cli", version: "7.7.7", before: None };

/// An MCP server with nine tools, which talks on its standard streams.
pub const MCP_MEMORY: Cli = Cli {
    name: "mcp-server-memory",
    package: "@modelcontextprotocol/server-memory",
    version: "2026.8.31",
    before: None,
};

/// An MCP server with an example of everything, which talks over HTTP when it is told to.
pub const MCP_EVERYTHING: Cli = Cli {
    name: "mcp-server-everything",
    package: "@modelcontextprotocol/server-everything",
    version: "2026.8.31",
    before: None,
};

impl Cli {
    /// Returns the variable that replaces the pin: `SESSD_TEST_CLAUDE=2.1.332`.
    pub fn variable(&self) -> String {
        format!("SESSD_TEST_{}", self.name.to_uppercase())
    }

    /// Returns the CLI at the version that [`Self::variable`] names, else at its pin.
    #[must_use]
    pub fn or_named(self) -> Self {
        match env::var(self.variable()) {
            Ok(version) if !version.is_empty() => self.at(version),
            _ => self,
        }
    }

    /// Returns the CLI at another version, and with none before it.
    #[must_use]
    pub fn at(self, version: String) -> Self {
        // A few bytes for each version that a run of the tests names.
        Self { version: version.leak(), before: None, ..self }
    }

    /// Returns the CLI at its version and, if there is one, at the pin before.
    pub fn versions(self) -> impl Iterator<Item = Self> {
        let before = self.before.map(|version| Self { version, before: None, ..self });
        [self].into_iter().chain(before)
    }
}

/// A provider CLI that runs on this machine.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The program's full path.
    pub program: PathBuf,
    /// Its version.
    pub version: &'static str,
}

/// Installs a CLI unless it is already there. Returns `None`, reported as a skip, if npm cannot.
pub fn install(cli: &Cli) -> Option<Installed> {
    let Cli { name, version, .. } = cli;
    let all = cache::directory("provider-clis");
    let lock = File::create(all.join(format!("{name}-{version}.lock"))).expect("a lock file");
    lock.lock().expect("a file system with locks");
    let directory = all.join(format!("{name}-{version}"));
    let program = directory.join("node_modules/.bin").join(name);
    if !directory.exists()
        && let Err(reason) = install_into(&directory, cli)
    {
        report::skipped(&format!("{name} {version} cannot be installed: {reason}"));
        return None;
    }
    Some(Installed { program, version })
}

/// Installs beside the directory, runs the program once, and renames: the directory is complete, or
/// it does not exist.
fn install_into(directory: &Path, cli: &Cli) -> io::Result<()> {
    let Cli { name, package, version, .. } = cli;
    let parent = directory.parent().expect("a directory of the cache");
    let staging = tempfile::Builder::new().prefix(".installing-").tempdir_in(parent)?;
    download(&format!("{package}@{version}"), staging.path())?;
    let home = tempfile::tempdir()?;
    let mut program = Command::new(staging.path().join("node_modules/.bin").join(name));
    // An MCP server does not print its version; it ends at once, since its input is empty.
    let is_server = package.starts_with("@modelcontextprotocol/");
    program.arg(if is_server { "stdio" } else { "--version" }).env("HOME", home.path());
    succeed(&mut program)?;
    let manifest = staging.path().join("node_modules").join(package).join("package.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest)?)?;
    if manifest["version"] != *version {
        return Err(io::Error::other(format!("it is {}", manifest["version"])));
    }
    fs::rename(staging.path(), directory)
}

/// Downloads a package with npm. After one failure in this process npm is not asked again: if its
/// registry is out of reach, each test would wait for it.
fn download(package: &str, prefix: &Path) -> io::Result<()> {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    if HAS_FAILED.load(Ordering::Relaxed) {
        return Err(io::Error::other("npm has failed before in this run"));
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]);
    npm.args(["--fetch-retry-maxtimeout=5000", "--fetch-timeout=60000"]);
    let installed = succeed(npm.arg("--prefix").arg(prefix).arg(package));
    installed.map(drop).inspect_err(|_| HAS_FAILED.store(true, Ordering::Relaxed))
}

fn succeed(command: &mut Command) -> io::Result<String> {
    let output = command.output();
    let output = output.map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}: {stderr}", output.status)))
}
