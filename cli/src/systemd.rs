//! The systemd user manager that may run the daemon. Sends it commands; writes no file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault, FaultCode};

/// The socket unit.
pub(crate) const SOCKET: &str = "sessd.socket";

/// The service unit.
pub(crate) const SERVICE: &str = "sessd.service";

/// The systemd manager of this user.
#[derive(Debug)]
pub(crate) struct Manager {
    runtime_dir: PathBuf,
}

impl Manager {
    /// Returns the manager of this user, if it can be reached.
    pub(crate) fn find(env: &Environment) -> Option<Self> {
        let named = env.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        // ssh, cron and sudo often drop the variable.
        let usual = || format!("/run/user/{}", rustix::process::getuid().as_raw()).into();
        let runtime_dir = named.unwrap_or_else(usual);
        runtime_dir.join("systemd/private").exists().then_some(Self { runtime_dir })
    }

    /// Returns the manager that has to start a daemon with these paths: its unit is installed, and
    /// neither the socket nor the program was overridden.
    pub(crate) fn in_charge(paths: &Paths, env: &Environment) -> Option<Self> {
        let manager = Self::find(env)?;
        let is_usual = paths.socket == manager.socket() && env.get("SESSD_BIN").is_none();
        (is_usual && manager.has_unit(env)).then_some(manager)
    }

    /// Returns the path of the unit's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir.join("sessd/sessd.sock")
    }

    /// Runs `systemctl --user` and waits for the job that it queues.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if the command fails.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<(), Fault> {
        self.run("systemctl", &[&["--user"], arguments].concat())
    }

    /// Returns a property of a unit; empty if systemd does not know it.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        let arguments = ["--user", "show", unit, "--value", "--property", name];
        let output = self.command("systemctl").args(arguments).stdin(Stdio::null()).output();
        output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// True if systemd has loaded an older version of a unit than the one on disk.
    pub(crate) fn has_outdated(&self, unit: &str) -> bool {
        self.property(unit, "NeedDaemonReload") == "yes"
    }

    /// Runs a command in the manager's environment.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if the command fails.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Fault> {
        let output = self.command(program).args(arguments).stdin(Stdio::null()).output();
        let what = || format!("{program} {}", arguments.join(" "));
        let output = output.map_err(|error| failed(&what(), &error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(&what(), String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Returns a command with the manager's environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", &self.runtime_dir);
        command
    }

    /// True if the socket unit is installed.
    fn has_unit(&self, env: &Environment) -> bool {
        let own = unit_dir(env).into_iter().chain([self.runtime_dir.join("systemd/user")]);
        let system = ["/etc", "/usr/local/lib", "/usr/lib"];
        let system = system.iter().map(|dir| Path::new(dir).join("systemd/user"));
        own.chain(system).any(|dir| dir.join(SOCKET).exists())
    }
}

/// Returns the directory of the user's own units.
pub(crate) fn unit_dir(env: &Environment) -> Option<PathBuf> {
    let dir = |name: &str| env.get(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let config = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")));
    Some(config?.join("systemd/user"))
}

/// True if a process belongs to the service unit.
pub(crate) fn runs(pid: u32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.rsplit('/').next() == Some(SERVICE))
}

fn failed(what: &str, why: &str) -> Fault {
    Fault::new(FaultCode::Environment, format!("`{what}` failed: {why}"))
        .hint("see `systemctl --user status sessd.socket sessd.service`")
}

/// Returns the fault for a machine without a user manager.
pub(crate) fn no_manager() -> Fault {
    Fault::new(FaultCode::Environment, "cannot reach a systemd user manager")
        .hint("systemd is optional: sessctl starts the daemon by itself on first use")
}
