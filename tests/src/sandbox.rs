//! The sealed machine of one test: home, runtime directory, environment, programs. Nothing of it is
//! left when the test ends. Knows no provider.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::stopwatch::Stopwatch;
use crate::tools;
use crate::wait::{DEADLINE, poll};

/// The programs under test, as only the test targets know them:
/// `env!("CARGO_BIN_EXE_e2e-sessctl")` and `env!("CARGO_BIN_EXE_e2e-sessd")`.
#[derive(Clone, Copy, Debug)]
pub struct Binaries {
    /// The client.
    pub sessctl: &'static str,
    /// The daemon.
    pub sessd: &'static str,
}

/// The output and the exit status of a program.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code, 128 + the signal that ended it.
    pub status: i32,
}

/// The machine of one test. When it is dropped every process started in it is killed, however
/// far it ran away, and its directory is deleted.
pub struct Sandbox {
    root: TempDir,
    binaries: Binaries,
    environment: BTreeMap<String, String>,
    _stopwatch: Stopwatch,
}

impl Sandbox {
    /// Makes a sandbox with an empty home, and `node` and `git` beside the system's programs.
    pub fn new(binaries: Binaries) -> Self {
        let stopwatch = Stopwatch::start();
        // Canonical, because the stores of providers contain it; short, because the path of a
        // socket has at most 107 bytes.
        let parent = env::temp_dir().canonicalize().expect("a directory for temporary files");
        let root = tempfile::Builder::new().prefix("e2e-").tempdir_in(parent);
        let root = root.expect("a temporary directory");
        let path = root.path();
        assert!(path.as_os_str().len() <= 60, "{} is too long for sockets", path.display());
        for directory in ["bin", "home", "run", "tmp"] {
            fs::create_dir(path.join(directory)).expect("a directory in an empty one");
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path.join("run"), private).expect("our own directory");
        let path = path.to_str().expect("a UTF-8 path");
        let environment = [
            ("HOME", format!("{path}/home")),
            ("LANG", "C.UTF-8".to_owned()),
            ("PATH", format!("{path}/bin:/usr/bin:/bin")),
            ("SESSD_BIN", binaries.sessd.to_owned()),
            ("TMPDIR", format!("{path}/tmp")),
            ("TZ", "UTC".to_owned()),
            ("XDG_RUNTIME_DIR", format!("{path}/run")),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let sandbox = Self { root, binaries, environment, _stopwatch: stopwatch };
        for name in ["node", "git"] {
            if let Some(program) = tools::find(name) {
                sandbox.link(name, &program);
            }
        }
        sandbox
    }

    /// Returns the home directory.
    pub fn home(&self) -> PathBuf {
        self.environment["HOME"].clone().into()
    }

    /// Returns the daemon's program.
    pub fn sessd(&self) -> &'static str {
        self.binaries.sessd
    }

    /// Returns `XDG_RUNTIME_DIR`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.environment["XDG_RUNTIME_DIR"].clone().into()
    }

    /// Returns the daemon's state folder.
    pub fn state_dir(&self) -> PathBuf {
        let set = self.environment.get("XDG_STATE_HOME").map(PathBuf::from);
        set.unwrap_or_else(|| self.home().join(".local/state")).join("sessd")
    }

    /// Returns a directory below the home, which is made if it is missing.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.home().join(name);
        fs::create_dir_all(&path).expect("our own directory");
        path
    }

    /// Writes a file below the home, with the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        fs::create_dir_all(path.parent().expect("the home at least")).expect("our own directory");
        fs::write(&path, content).expect("our own file");
        path
    }

    /// Writes a script below the home that can be executed at once.
    pub fn script(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home().join(name);
        fs::create_dir_all(path.parent().expect("the home at least")).expect("our own directory");
        write_program(&path, text.as_ref());
        path
    }

    /// Sets a variable for every program started from now on.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.environment.insert(name.to_owned(), value.into());
    }

    /// True if a variable has this value.
    pub(crate) fn has_env(&self, name: &str, value: &str) -> bool {
        self.environment.get(name).is_some_and(|set| set == value)
    }

    /// Puts a program on the `PATH`; replaces another one of that name.
    pub fn link(&self, name: &str, program: &Path) {
        let link = self.root.path().join("bin").join(name);
        let _ = fs::remove_file(&link);
        symlink(program, link).expect("our own directory");
    }

    /// Returns a command in the sealed environment and the home directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment).current_dir(self.home());
        command
    }

    /// Runs the client to its end.
    pub fn sessctl(&self, arguments: &[&str]) -> Output {
        self.run(self.command(self.binaries.sessctl).args(arguments), DEADLINE)
    }

    /// Runs a command to its end, with nothing on its standard input.
    pub fn run(&self, command: &mut Command, deadline: Duration) -> Output {
        // Files, not pipes: a daemon that inherits them must not hold up its parent's end.
        let directory = TempDir::new_in(&self.environment["TMPDIR"]).expect("our own directory");
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
        let create = |path: &Path| fs::File::create(path).expect("our own file");
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = |path: &Path| {
            String::from_utf8_lossy(&fs::read(path).expect("our own file")).into_owned()
        };
        let status = poll(deadline, || child.try_wait().expect("our own child"));
        let (stdout, stderr) = (said(&stdout), said(&stderr));
        let Some(status) = status else {
            panic!("{command:?} did not end in {deadline:?}; it said:\n{stdout}\n{stderr}");
        };
        let by_signal = || 128 + status.signal().unwrap_or_default();
        Output { stdout, stderr, status: status.code().unwrap_or_else(by_signal) }
    }

    /// Returns the daemon's process id, from the first line of its lock file.
    pub fn daemon_pid(&self) -> Option<i32> {
        let lock = fs::read_to_string(self.state_dir().join("sessd.lock")).ok()?;
        lock.lines().next()?.trim().parse().ok()
    }

    /// Returns the process that holds the daemon's lock. A daemon that was started directly does
    /// not name the sandbox in its arguments, and only root can read its environment.
    pub(crate) fn holder(&self) -> Option<i32> {
        let lock = fs::File::open(self.state_dir().join("sessd.lock")).ok()?;
        let is_held = matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
        is_held.then(|| self.daemon_pid()).flatten()
    }

    /// Kills every process that has this sandbox in its environment; true if there was one.
    fn kill_processes(&self) -> bool {
        let marker = self.root.path().as_os_str().as_bytes();
        let mut found = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
            // Opened before its environment is read, so that no other process is killed.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let traces = traces(pid.as_raw_pid());
            let is_ours = traces.windows(marker.len()).any(|window| window == marker);
            if is_ours || self.holder() == Some(pid.as_raw_pid()) {
                found |= pidfd_send_signal(&process, Signal::KILL).is_ok();
            }
        }
        found
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let ended = poll(DEADLINE, || (!self.kill_processes()).then_some(()));
        assert!(ended.is_some() || thread::panicking(), "the sandbox's processes do not end");
    }
}

/// Writes a program from a separate process. A child that another test starts at the same moment
/// inherits the files that this process writes, and the kernel does not execute a file that is
/// open for writing.
pub(crate) fn write_program(path: &Path, text: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$0\" && chmod 700 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    shell.stdin.take().expect("it is piped").write_all(text).expect("a pipe");
    assert!(shell.wait().expect("our own child").success(), "{} is not written", path.display());
}

/// Returns the environment and the arguments of a process, which name its sandbox, where they
/// can be read.
pub(crate) fn traces(pid: i32) -> Vec<u8> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    [read("environ"), read("cmdline")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::is_running;

    #[test]
    fn nothing_survives_the_sandbox() {
        let sandbox = Sandbox::new(Binaries { sessctl: "", sessd: "" });
        let root = sandbox.root.path().to_owned();
        let script = "setsid --fork sh -c 'echo $$ >pid; exec sleep 1000'; exit 3";
        let output = sandbox.run(sandbox.command("sh").args(["-c", script]), DEADLINE);
        assert_eq!(output.status, 3, "{output:?}");
        let pid = poll(DEADLINE, || {
            let pid = fs::read_to_string(sandbox.home().join("pid")).ok()?;
            pid.trim().parse::<i32>().ok()
        });
        let pid = pid.and_then(Pid::from_raw).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(sandbox);
        assert!(!root.exists());
        // Without a parent of its own a killed process may stay a zombie, but runs no more.
        let ended = poll(DEADLINE, || (!is_running(pid.as_raw_pid())).then_some(()));
        assert!(ended.is_some(), "it runs on");
    }
}
