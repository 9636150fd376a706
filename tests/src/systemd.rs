//! A real `systemd --user` for one test: an unprivileged user with a home, a journal and the
//! programs under test in `~/.local/bin`. All of it ends with the test. Knows no sessions.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::sandbox::{Binaries, Output, write_program};
use crate::stopwatch::Stopwatch;
use crate::wait::{DEADLINE, poll, wait_until};
use crate::{report, tools};

/// The user that everything runs as.
const USER: u32 = 4242;

/// The programs that the boot needs, beside the right to make namespaces.
const PROGRAMS: &[&str] = &[
    "/lib/systemd/systemd",
    "/lib/systemd/systemd-journald",
    "systemctl",
    "journalctl",
    "setpriv",
    "nsenter",
    "unshare",
];

/// The machine of a user with systemd.
pub struct UserManager {
    root: TempDir,
    cgroup: PathBuf,
    boot: Child,
    /// The first process inside.
    init: u32,
    _stopwatch: Stopwatch,
}

impl UserManager {
    /// Boots it. Returns `None`, reported as a skip, if that is not permitted or systemd is
    /// missing.
    pub fn boot(binaries: Binaries) -> Option<Self> {
        if !can_boot() {
            return None;
        }
        let stopwatch = Stopwatch::start();
        let root = tempfile::Builder::new().prefix("e2e-sd-").tempdir().expect("a directory");
        let path = root.path();
        let programs = path.join("home/.local/bin");
        fs::create_dir_all(&programs).expect("our own directory");
        fs::create_dir(path.join("run")).expect("our own directory");
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path.join("run"), private).expect("our own directory");
        for name in ["", "run", "home", "home/.local", "home/.local/bin"] {
            chown(path.join(name), Some(USER), Some(USER)).expect("root may");
        }
        for (name, program) in [("sessctl", binaries.sessctl), ("sessd", binaries.sessd)] {
            copy_program(Path::new(program), &programs.join(name));
        }
        let cgroup = cgroup_root().expect("seen above").join(path.file_name().expect("a name"));
        fs::create_dir(&cgroup).expect("root may");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/systemd.sh");
        let boot = Command::new(script)
            .arg(&cgroup)
            .arg(USER.to_string())
            .args([path.join("home"), path.join("run")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let boot = boot.expect("a shell");
        let mut manager = Self { boot, cgroup, init: 0, root, _stopwatch: stopwatch };
        let mut said = String::new();
        let output = manager.boot.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("a pipe");
        assert_eq!(said, "ready\n", "systemd does not boot");
        let boot = manager.boot.id();
        let children = fs::read_to_string(format!("/proc/{boot}/task/{boot}/children"));
        manager.init = children.expect("a process").trim().parse().expect("one child");
        Some(manager)
    }

    /// Returns the user's home.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.root.path().join("run/sessd/sessd.sock")
    }

    /// Returns the path of a program in `~/.local/bin`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.home().join(".local/bin").join(name)
    }

    /// Puts a program into `~/.local/bin`.
    pub fn install(&self, name: &str, program: impl AsRef<Path>) {
        let partial = self.program("partial");
        copy_program(program.as_ref(), &partial);
        // A program that runs cannot be overwritten.
        fs::rename(partial, self.program(name)).expect("our own file");
    }

    /// Returns the folder of the user's units.
    pub fn units(&self) -> PathBuf {
        self.home().join(".config/systemd/user")
    }

    /// Writes a file below the home, as the user would.
    pub fn write(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.home().join(name);
        let folder = path.parent().expect("the home at least");
        fs::create_dir_all(folder).expect("our own directory");
        // Renamed into its place, as a program that runs cannot be overwritten.
        let partial = path.with_extension("partial");
        write_program(&partial, content.as_bytes());
        fs::set_permissions(&partial, fs::Permissions::from_mode(mode)).expect("our own file");
        chown(&partial, Some(USER), Some(USER)).expect("root may");
        fs::rename(partial, &path).expect("our own file");
        let made = folder.ancestors().take_while(|dir| *dir != self.home());
        made.for_each(|dir| chown(dir, Some(USER), Some(USER)).expect("root may"));
        path
    }

    /// Returns a command that runs as the user inside the machine, with the variables that a login
    /// shell would set.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        let (target, user) = (self.init.to_string(), USER.to_string());
        command.args(["--target", &target, "--mount", "--pid", "--ipc", "--uts", "--cgroup"]);
        command.args(["--", "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all", "env", "-i", "--chdir"]);
        let home = self.home();
        command.arg(&home).arg(format!("HOME={}", home.display()));
        command.arg(format!("XDG_RUNTIME_DIR={}", self.root.path().join("run").display()));
        command.arg(format!("PATH={}:/usr/bin:/bin", home.join(".local/bin").display()));
        command.args(["USER=tester", "LANG=C.UTF-8"]).arg(program.as_ref());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &mut Command) -> Output {
        let directory = TempDir::new_in(self.root.path()).expect("our own directory");
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
        let create = |path: &Path| File::create(path).expect("our own file");
        command.stdout(create(&stdout)).stderr(create(&stderr));
        let mut child = command.spawn().expect("nsenter");
        let status = poll(DEADLINE, || child.try_wait().expect("our own child"));
        let said = |path: &Path| fs::read_to_string(path).expect("UTF-8");
        let status = status.unwrap_or_else(|| panic!("{command:?}: {}", said(&stderr)));
        Output {
            stdout: said(&stdout),
            stderr: said(&stderr),
            status: status.code().unwrap_or(128),
        }
    }

    /// Runs the client.
    pub fn sessctl(&self, arguments: &[&str]) -> Output {
        self.run(self.command(self.program("sessctl")).args(arguments))
    }

    /// Runs the client with `--json` and returns its output. Panics with its stderr if it fails.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.sessctl(&[&["--json"], arguments].concat());
        assert_eq!(output.status, 0, "{arguments:?}: {}", output.stderr);
        serde_json::from_str(&output.stdout).expect("JSON")
    }

    /// Runs `systemctl --user`, which must succeed.
    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        let output = self.run(self.command("systemctl").arg("--user").args(arguments));
        assert_eq!(output.status, 0, "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// Returns a property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", unit, "--value", "--property", name]).trim().to_owned()
    }

    /// Returns the process id of the service inside the machine.
    pub fn main_pid(&self) -> Option<u32> {
        self.property("sessd.service", "MainPID").parse().ok().filter(|pid| *pid > 0)
    }

    /// Sends a signal to the service's process.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let pid = self.main_pid().expect("a running service").to_string();
        assert_eq!(self.run(self.command("kill").args([signal, &pid])).status, 0);
    }

    /// Waits until a property of a unit has this value.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, name: &str, value: &str, deadline: Duration) {
        wait_until(&format!("{unit}: {name}={value}"), deadline, || {
            (self.property(unit, name) == value).then_some(())
        });
    }

    /// Returns the service's lines of the user's journal, in a format of `journalctl`.
    pub fn journal(&self, format: &str) -> String {
        let mut command = self.command("journalctl");
        command.args(["--user", "--quiet", "--no-pager", "--unit=sessd", "--output", format]);
        self.run(&mut command).stdout
    }

    /// Returns the command lines of the processes in the service's cgroup.
    pub fn service_processes(&self) -> Vec<String> {
        let group = format!(
            "user.slice/user-{USER}.slice/user@{USER}.service/app.slice/sessd.service/cgroup.procs"
        );
        let pids = fs::read_to_string(self.cgroup.join(group)).unwrap_or_default();
        let line = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.lines().map(line).map(|line| line.replace('\0', " ")).collect()
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        let _ = self.boot.kill();
        let _ = self.boot.wait();
        // The namespace of its processes is gone, but some may not have ended yet.
        poll(DEADLINE, || remove_tree(&self.cgroup).ok());
    }
}

/// Copies a program from a separate process, for the same reason as [`write_program`].
fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "{} is not copied", from.display());
}

/// Removes a cgroup with its children, leaves first; the files in them cannot be removed and need
/// not be.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// True if systemd can be booted here; else reports the reason as a skip.
fn can_boot() -> bool {
    if !tools::require_root("systemd") || PROGRAMS.iter().any(|it| tools::require(it).is_none()) {
        return false;
    }
    let unshare = Command::new("unshare").args(["--mount", "--pid", "--cgroup", "true"]).output();
    let may_unshare = unshare.is_ok_and(|output| output.status.success());
    if !may_unshare || cgroup_root().is_none() {
        report::not_permitted("systemd needs namespaces and a cgroup2");
        return false;
    }
    true
}

/// Returns the mount point of cgroup2.
fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let of_cgroup2 = |line: &str| {
        let mut words = line.split(' ');
        let path = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| PathBuf::from(path))
    };
    mounts.lines().find_map(of_cgroup2)
}
