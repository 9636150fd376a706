//! `sessctl daemon install`, `uninstall` and `logs` with a real `systemd --user`, and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use sessd_tests::sandbox::Sandbox;
use sessd_tests::systemd::UserManager;
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::systemd::installed;

/// Returns what `install` or `uninstall` reports, by the names of the files and units.
#[track_caller]
fn actions(manager: &UserManager, arguments: &[&str]) -> Vec<String> {
    let done = manager.json(&[&["daemon"], arguments].concat());
    let action = |action: &serde_json::Value| {
        let what = action["what"].as_str().unwrap();
        let path = what.split(": ").next().unwrap();
        let name = path.rsplit('/').next().unwrap();
        format!("{} {name}", action["action"].as_str().unwrap())
    };
    done["actions"].as_array().unwrap().iter().map(action).collect()
}

fn names_below(dir: &Path) -> Vec<String> {
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    let mut names: Vec<_> = files_below(dir).iter().map(|path| name(path)).collect();
    names.sort();
    names
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let Some(manager) = installed() else { return };
    let units = manager.units();
    let mut verify = manager.command("systemd-analyze");
    verify
        .args(["--user", "verify"])
        .args(["sessd.socket", "sessd.service"].map(|u| units.join(u)));
    let output = manager.run(&mut verify);
    assert_eq!((output.status, &*output.stdout, &*output.stderr), (0, "", ""));
    assert_eq!(manager.sessctl(&["list"]).status, 0);
    // systemd ignores options that it does not know: these show that it has understood.
    for (name, value) in [
        ("Type", "notify"),
        ("WatchdogUSec", "30s"),
        ("Restart", "on-failure"),
        ("KillMode", "mixed"),
        ("OOMPolicy", "continue"),
        ("NoNewPrivileges", "yes"),
        ("TimeoutStartUSec", "5min"),
    ] {
        assert_eq!(manager.property("sessd.service", name), value, "{name}");
    }
}

const ENABLED: &str = "enabled sessd.socket and sessd.service";

/// The service itself is not: the first call starts it.
const STARTED: &str = "started sessd.socket; the first call starts the daemon";

#[test]
fn install_is_repeatable_keeps_edits_and_can_be_undone() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    assert_eq!(manager.sessctl(&["send", "--new", "echo", "kept"]).status, 0);
    let by_hand = manager.json(&["status"])["pid"].clone();
    let unit = |name: &str| manager.units().join(name);
    let first = actions(&manager, &["install"]);
    assert_eq!(
        first,
        [
            "wrote sessd.socket",
            "wrote sessd.service",
            "wrote 10-installed.conf",
            &*format!("stopped the daemon (process {by_hand})"),
            ENABLED,
            STARTED,
        ]
    );
    assert_eq!(manager.property("sessd.service", "UnitFileState"), "enabled");
    let listed = manager.json(&["list"]);
    assert_eq!(listed["sessions"][0]["title"], "kept");
    let pid = manager.main_pid().expect("the unit serves now");
    assert_eq!(
        actions(&manager, &["install"]),
        [
            "unchanged sessd.socket",
            "unchanged sessd.service",
            "unchanged 10-installed.conf",
            ENABLED,
            STARTED,
        ]
    );
    assert_eq!(manager.main_pid(), Some(pid), "it was restarted for nothing");

    // Files of an earlier version are replaced, and edited files are kept.
    let edited = fs::read_to_string(unit("sessd.service")).unwrap() + "# mine\n";
    manager.write(".config/systemd/user/sessd.service", &edited, 0o600);
    manager.write(".config/systemd/user/sessd.service.d/mine.conf", "[Service]\nNice=1\n", 0o600);
    let install = ["daemon", "install"];
    let mut elsewhere = manager.command("env");
    elsewhere.arg("PATH=/usr/bin:/bin:/else where/%h").arg(manager.program("sessctl"));
    let output = manager.run(elsewhere.args(install));
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout.contains("systemctl --user edit"), "{}", output.stdout);
    let said: Vec<_> = output.stdout.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        said,
        ["unchanged", "kept", "wrote", "stopped", "enabled", "started"],
        "{}",
        output.stdout
    );
    assert_eq!(fs::read_to_string(unit("sessd.service")).unwrap(), edited);
    let doctor = manager.sessctl(&["doctor"]).stdout;
    assert!(doctor.contains("/usr/bin:/bin:/else where/%h\n"), "{doctor}");

    let done = actions(&manager, &["uninstall"]);
    assert_eq!(
        done,
        [
            "stopped sessd.socket and sessd.service",
            "removed sessd.socket",
            "kept sessd.service",
            "removed 10-installed.conf"
        ]
    );
    assert_eq!(names_below(&manager.units()), ["sessd.service", "sessd.service.d/mine.conf"]);
    assert_eq!(manager.main_pid(), None);
    assert!(!manager.socket().exists(), "systemd still listens");
    assert_eq!(manager.json(&["list"]), listed, "the registry is another one");
    assert_eq!(manager.main_pid(), None, "what was uninstalled is started");
}

#[test]
fn uninstall_leaves_nothing_of_ours_and_may_be_repeated() {
    let Some(manager) = installed() else { return };
    let lingers = manager.sessctl(&["daemon", "install", "--linger"]);
    assert_eq!(lingers.status, 1, "without logind: {lingers:?}");
    assert!(lingers.stderr.contains("as root: `loginctl enable-linger "), "{lingers:?}");
    assert_eq!(manager.sessctl(&["daemon", "uninstall"]).status, 0);
    assert_eq!(names_below(&manager.units()), [""; 0]);
    assert_eq!(manager.sessctl(&["daemon", "uninstall"]).status, 0);
    assert_eq!(manager.sessctl(&["list"]).status, 0);
}

#[test]
fn uninstall_needs_no_program() {
    let Some(manager) = installed() else { return };
    fs::remove_file(manager.program("sessd")).unwrap();
    let output = manager.sessctl(&["daemon", "uninstall"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert_eq!(names_below(&manager.units()), [""; 0]);
    assert_eq!(manager.property("sessd.socket", "ActiveState"), "inactive");
}

#[test]
fn an_interrupted_install_is_completed_by_the_next_one() {
    const PATH: &str = "PATH=/usr/bin:/bin:/new/place";
    let Some(manager) = installed() else { return };
    assert_eq!(manager.sessctl(&["list"]).status, 0);
    let install = |option: &[&str]| {
        let mut install = manager.command("env");
        install.arg(PATH).arg(manager.program("sessctl")).args(["--json", "daemon", "install"]);
        let output = manager.run(install.args(option));
        assert_eq!(output.status, 0, "{}", output.stderr);
        serde_json::from_str::<serde_json::Value>(&output.stdout).unwrap()
    };
    // It got as far as the last file, and no further; and the socket was edited.
    let text = install(&["--print"])["files"][2]["text"].as_str().unwrap().to_owned();
    manager.write(".config/systemd/user/sessd.service.d/10-installed.conf", &text, 0o600);
    let socket = fs::read_to_string(manager.units().join("sessd.socket")).unwrap();
    let socket = socket.replace("SocketMode=0600", "SocketMode=0620");
    manager.write(".config/systemd/user/sessd.socket", &socket, 0o600);

    let done = install(&[])["actions"].to_string();
    assert!(!done.contains("\"wrote\""), "{done}");
    let doctor = manager.sessctl(&["doctor"]).stdout;
    assert!(doctor.contains("/usr/bin:/bin:/new/place\n"), "{doctor}");
    let mode = fs::metadata(manager.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o620, "systemd listens as before");
    let pid = manager.main_pid();
    install(&[]);
    assert_eq!(manager.main_pid(), pid, "it was restarted for nothing");
}

#[test]
fn install_refuses_to_interrupt_turns() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    let program = manager.write("hanging-echo", "#!/bin/sh\nsleep 1000\n", 0o700);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    manager.write(".config/sessd/config.toml", &config, 0o600);
    let mut send = manager.command(manager.program("sessctl"));
    let mut send =
        send.args(["send", "--new", "echo", "hi"]).stderr(Stdio::null()).spawn().unwrap();
    let pending = || manager.json(&["status"])["turns_pending"].as_i64().unwrap();
    wait_until("a turn that runs", DEADLINE, || (pending() == 1).then_some(()));
    assert_fault(&manager.sessctl(&["daemon", "install"]), 4, "a turn runs");
    assert!(!manager.home().join(".config/systemd").exists(), "something was written");
    assert_eq!(manager.sessctl(&["daemon", "stop"]).status, 0);
    assert!(!send.wait().unwrap().success());
    assert_eq!(manager.sessctl(&["daemon", "install"]).status, 0);
}

#[test]
fn print_writes_nothing() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    let output = manager.sessctl(&["daemon", "install", "--print"]);
    assert_eq!(output.status, 0);
    let program = manager.program("sessd");
    assert!(output.stdout.contains(&format!("ExecStart=\"{}\" --foreground", program.display())));
    assert!(output.stdout.contains("[Socket]") && output.stdout.contains("\"PATH="));
    let files = manager.json(&["daemon", "install", "--print"])["files"].clone();
    let text = |file: &serde_json::Value| {
        format!("# {}\n{}\n", file["path"].as_str().unwrap(), file["text"].as_str().unwrap())
    };
    assert_eq!(files.as_array().unwrap().iter().map(text).collect::<String>(), output.stdout);
    assert!(!manager.home().join(".config").exists());
}

#[test]
fn providers_are_found_on_the_path_of_the_installing_shell() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    let program = manager.write("odd %h \"dir\\/claude", "#!/bin/sh\n", 0o755);
    let folder = program.parent().unwrap().display().to_string();
    let mut install = manager.command("env");
    install.arg(format!("PATH=/usr/bin:/bin:{folder}")).arg(manager.program("sessctl"));
    let output = manager.run(install.args(["daemon", "install"]));
    assert_eq!(output.status, 0, "{}", output.stderr);
    let doctor = manager.sessctl(&["doctor"]).stdout;
    assert!(manager.main_pid().is_some());
    assert!(doctor.contains(&*program.to_string_lossy()), "{doctor}");
}

#[test]
fn logs_come_from_the_journal_while_the_unit_runs() {
    let Some(manager) = installed() else { return };
    manager.write(".config/sessd/config.toml", "nonsense = 1\n", 0o600);
    // A broken configuration is an answer, no reason to be started again and again.
    assert_ne!(manager.sessctl(&["list"]).status, 0);
    let status = manager.property("sessd.service", "StatusText");
    assert!(status.starts_with("degraded: "), "{status}");
    assert_eq!(manager.property("sessd.service", "NRestarts"), "0");
    let message = |text: &str| {
        wait_until(&format!("{text:?} in the journal"), DEADLINE, || {
            let journal = manager.journal("json");
            let mut lines = journal.lines().map(|l| serde_json::from_str(l).unwrap());
            lines.find(|l: &serde_json::Value| l["MESSAGE"].as_str().unwrap().starts_with(text))
        })
    };
    assert_eq!(message("degraded: ")["PRIORITY"], "3");
    assert_eq!(message("listening on ")["PRIORITY"], "6");

    let logs = manager.sessctl(&["daemon", "logs", "-n", "3"]);
    assert_eq!(logs.status, 0, "{}", logs.stderr);
    assert_eq!(logs.stdout.lines().count(), 3, "{}", logs.stdout);
    assert!(logs.stdout.contains("listening on "), "{}", logs.stdout);
    let lines = manager.json(&["daemon", "logs", "-n", "3"])["lines"].clone();
    assert_eq!(lines.as_array().unwrap().len(), 3, "{lines}");
    assert_eq!(manager.sessctl(&["daemon", "logs", "-f", "--json"]).status, 2, "it has no end");
    manager.wait_for("sessd.service", "ActiveState", "active", DEADLINE);
    assert!(!manager.home().join(".local/state/sessd/sessd.log").exists(), "it logs twice");
}

#[test]
fn without_systemd_install_refuses_and_says_none_is_needed() {
    let sandbox = Sandbox::new(BINARIES);
    let output = sandbox.sessctl(&["daemon", "install"]);
    assert_fault(&output, 1, "install without systemd");
    assert!(output.stderr.contains("starts the daemon by itself"), "{}", output.stderr);
    assert!(!sandbox.home().join(".config/systemd").exists());
    assert_eq!(sandbox.sessctl(&["daemon", "uninstall"]).status, 0);
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
}
