//! systemd's user manager, as far as the daemon runs below it. Sends it commands; writes no file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault, FaultCode};

/// The unit that listens.
pub(crate) const SOCKET: &str = "sessd.socket";

/// The unit that serves.
pub(crate) const SERVICE: &str = "sessd.service";

/// The user's manager.
#[derive(Debug)]
pub(crate) struct Manager {
    runtime_dir: PathBuf,
}

impl Manager {
    /// The manager of this user, if one can be reached.
    pub(crate) fn find(env: &Environment) -> Option<Self> {
        let named = env.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        // ssh, cron and sudo often lose the variable although the manager is there.
        let usual = || format!("/run/user/{}", rustix::process::getuid().as_raw()).into();
        let runtime_dir = named.unwrap_or_else(usual);
        runtime_dir.join("systemd/private").exists().then_some(Self { runtime_dir })
    }

    /// The manager below which a daemon of these paths is to be started: its unit is installed,
    /// and nobody has asked for another socket or program.
    pub(crate) fn in_charge(paths: &Paths, env: &Environment) -> Option<Self> {
        let manager = Self::find(env)?;
        let is_usual = paths.socket == manager.socket() && env.get("SESSD_BIN").is_none();
        (is_usual && manager.has_unit(env)).then_some(manager)
    }

    /// Where the unit listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir.join("sessd/sessd.sock")
    }

    /// Runs `systemctl --user` and waits for the job it queues.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<(), Fault> {
        self.run("systemctl", &[&["--user"], arguments].concat())
    }

    /// A property of a unit; empty if systemd does not know it.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        let arguments = ["--user", "show", unit, "--value", "--property", name];
        let output = self.command("systemctl").args(arguments).stdin(Stdio::null()).output();
        output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// True if a unit that is in use is not the one on disk.
    pub(crate) fn has_outdated(&self, unit: &str) -> bool {
        self.property(unit, "NeedDaemonReload") == "yes"
    }

    /// Runs a program of systemd's in the manager's environment.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Fault> {
        let output = self.command(program).args(arguments).stdin(Stdio::null()).output();
        let what = || format!("{program} {}", arguments.join(" "));
        let output = output.map_err(|error| failed(&what(), &error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(&what(), String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// A command in the manager's environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", &self.runtime_dir);
        command
    }

    /// True if the unit that listens is where this manager looks for it.
    fn has_unit(&self, env: &Environment) -> bool {
        let own = unit_dir(env).into_iter().chain([self.runtime_dir.join("systemd/user")]);
        let system = ["/etc", "/usr/local/lib", "/usr/lib"];
        let system = system.iter().map(|dir| Path::new(dir).join("systemd/user"));
        own.chain(system).any(|dir| dir.join(SOCKET).exists())
    }
}

/// Where a user's own units are.
pub(crate) fn unit_dir(env: &Environment) -> Option<PathBuf> {
    let dir = |name: &str| env.get(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let config = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")));
    Some(config?.join("systemd/user"))
}

/// True if a process is the unit's.
pub(crate) fn runs(pid: u32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.rsplit('/').next() == Some(SERVICE))
}

fn failed(what: &str, why: &str) -> Fault {
    Fault::new(FaultCode::Environment, format!("`{what}` failed: {why}"))
        .hint("the state of the units: `systemctl --user status sessd.socket sessd.service`")
}

/// Why there is nothing to install.
pub(crate) fn no_manager() -> Fault {
    Fault::new(FaultCode::Environment, "no systemd user manager can be reached here")
        .hint("none is needed: sessctl starts the daemon by itself on first use")
}
