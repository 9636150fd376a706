//! The daemon as a unit of a real `systemd --user`: started by its socket, stopped, without its
//! name, beside a daemon that was started by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use sessd_tests::sandbox::Output;
use sessd_tests::systemd::UserManager;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::autostart::remove;

/// A user who has typed `sessctl daemon install`.
pub(crate) fn installed() -> Option<UserManager> {
    let manager = UserManager::boot(BINARIES)?;
    let output = manager.sessctl(&["daemon", "install"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    Some(manager)
}

#[track_caller]
fn assert_answers(manager: &UserManager, after: &str) {
    let Output { status, stderr, .. } = manager.sessctl(&["list"]);
    assert_eq!((status, &*stderr), (0, ""), "after {after}");
}

#[test]
fn the_first_call_starts_the_service_on_systemds_socket() {
    let Some(manager) = installed() else { return };
    assert_eq!(manager.property("sessd.socket", "ActiveState"), "active");
    assert_eq!(manager.main_pid(), None, "it runs before the first call");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&manager.socket()), 0o600);
    assert_eq!(mode(manager.socket().parent().unwrap()), 0o700);

    assert_answers(&manager, "install");
    let pid = manager.main_pid().expect("the service runs");
    assert_eq!(manager.json(&["status"])["pid"], pid);
    assert_eq!(manager.json(&["daemon", "start"])["pid"], pid, "another one is named");
    assert!(manager.sessctl(&["status"]).stdout.contains("run by\tsystemd\n"));
    assert_eq!(manager.property("sessd.service", "StatusText"), "serving");
}

#[test]
fn the_daemons_memory_is_closed_to_the_users_processes() {
    let Some(manager) = installed() else { return };
    assert_answers(&manager, "install");
    let environment = format!("/proc/{}/environ", manager.main_pid().expect("the service runs"));
    let read = |path: &str| manager.run(manager.command("cat").arg(path)).status;
    assert_eq!((read("/proc/self/environ"), read(&environment)), (0, 1));
    // It starts itself as the built-in agent all the same.
    assert_eq!(manager.sessctl(&["send", "--new", "echo", "hello"]).status, 0);
}

#[test]
fn stop_keeps_the_socket_and_the_next_call_starts_it_again() {
    let Some(manager) = installed() else { return };
    assert_answers(&manager, "install");
    let first = manager.main_pid();
    let stopped = manager.sessctl(&["daemon", "stop"]);
    assert_eq!(stopped.status, 0);
    assert!(stopped.stderr.contains("the next call starts it again"), "{}", stopped.stderr);
    assert_eq!(manager.property("sessd.service", "ActiveState"), "inactive");
    assert_eq!(manager.property("sessd.service", "Result"), "success", "it did not end well");
    assert_eq!(manager.property("sessd.socket", "ActiveState"), "active");
    assert!(manager.socket().exists(), "the socket is gone");

    assert_answers(&manager, "stop");
    let second = manager.main_pid();
    assert_ne!(first, second);
    let restarted = manager.json(&["daemon", "restart"])["pid"].clone();
    assert_eq!(Some(restarted), manager.main_pid().map(Into::into));
    assert_ne!(second, manager.main_pid());
    // A daemon that ends without systemd's order ends well, too.
    manager.signal("-TERM");
    manager.wait_for("sessd.service", "ActiveState", "inactive", DEADLINE);
    assert_eq!(manager.property("sessd.service", "Result"), "success");
    assert_answers(&manager, "SIGTERM");
}

/// Ended in order and killed alike: systemd and the next daemon leave no process of it, what it
/// had said is there, and the prompt that waited is answered.
#[test]
fn the_end_of_the_service_interrupts_a_turn_and_runs_the_next() {
    let Some(manager) = installed() else { return };
    let script = r#"#!/bin/sh
read -r prompt
echo "{\"type\":\"started\",\"data\":{\"provider_session_id\":\"$5\"}}"
echo '{"type":"text","text":"first words"}'
[ "$prompt" = talk ] && { sleep 1000 & sleep 1000; }
echo '{"type":"result","text":"last words"}'
"#;
    let program = manager.write("hesitant", script, 0o700);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    manager.write(".config/sessd/config.toml", &config, 0o600);
    for how in ["stop", "restart", "kill"] {
        let sent = manager.json(&["send", "--detach", "--new", "echo", "talk"]);
        let [id, running] = ["session", "turn"].map(|of| sent[of]["id"].as_str().unwrap());
        let queued = manager.json(&["send", "--detach", id, "more"])["turn"]["id"].clone();
        let sleeping = || {
            let lines = manager.service_processes();
            lines.iter().filter(|line| line.starts_with("sleep ")).count()
        };
        wait_until("a turn that runs", DEADLINE, || (sleeping() == 2).then_some(()));
        let mut follower = manager.command(manager.program("sessctl"));
        let follower = follower.args(["turns", "follow", running]).stdout(Stdio::piped());
        let follower = follower.stderr(Stdio::null()).spawn().unwrap();
        if how == "kill" {
            manager.signal("-KILL");
        } else {
            manager.systemctl(&[how, "sessd.service"]);
            assert_eq!(sleeping(), 0, "{how} has left something running");
            let journal = manager.journal("cat");
            assert!(!journal.contains("Killing process"), "systemd had to clean up: {journal}");
        }
        if how == "stop" {
            assert_eq!(manager.property("sessd.service", "Result"), "success");
        }
        let followed = follower.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(followed.stdout).unwrap(), "first words\n", "{how}");
        assert_eq!(manager.json(&["turns", "show", running])["state"], "interrupted", "{how}");
        wait_until("the end of all sleepers", DEADLINE, || (sleeping() == 0).then_some(()));
        let said = manager.sessctl(&["turns", "follow", queued.as_str().unwrap()]);
        assert_eq!((said.status, &*said.stdout), (0, "first words\n"), "{how}: {said:?}");
    }
}

#[test]
fn a_socket_whose_name_was_removed_costs_no_call() {
    let Some(manager) = installed() else { return };
    let folder = manager.socket().parent().unwrap().to_owned();
    // At first no daemon runs, and systemd does not notice; then one takes its name again;
    // then that name goes with the daemon, and again systemd does not notice.
    for round in ["before the first call", "while it runs", "after it has ended"] {
        if round == "after it has ended" {
            manager.systemctl(&["stop", "sessd.service"]);
        } else {
            remove(&folder);
        }
        assert_answers(&manager, round);
        let pid = manager.main_pid().unwrap_or_else(|| panic!("{round}: no service"));
        assert_eq!(manager.json(&["status"])["pid"], pid, "{round}: it is another daemon");
        assert_eq!(manager.property("sessd.socket", "ActiveState"), "active", "{round}");
    }
    // Started without a client, it finds that its socket has no name.
    manager.systemctl(&["stop", "sessd.service"]);
    remove(&folder);
    manager.systemctl(&["start", "sessd.service"]);
    assert_answers(&manager, "a start without a name");
    assert_eq!(manager.json(&["status"])["pid"], manager.main_pid().unwrap());
}

#[test]
fn a_daemon_started_by_hand_keeps_the_registry() {
    let Some(manager) = UserManager::boot(BINARIES) else { return };
    assert_answers(&manager, "boot");
    let by_hand = manager.json(&["status"])["pid"].clone();
    for unit in ["sessd.socket", "sessd.service"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(unit);
        let text = fs::read_to_string(source).unwrap();
        manager.write(&format!(".config/systemd/user/{unit}"), &text, 0o600);
    }
    manager.systemctl(&["daemon-reload"]);
    // systemd takes the name away from a daemon that lives.
    manager.systemctl(&["start", "sessd.socket"]);
    assert_answers(&manager, "systemd has taken the name");
    assert_eq!(manager.json(&["status"])["pid"], by_hand, "the registry was taken away");
    manager.wait_for("sessd.service", "ActiveState", "inactive", DEADLINE);
    assert_eq!(manager.property("sessd.service", "Result"), "success");
    assert_eq!(manager.property("sessd.service", "NRestarts"), "0", "it is tried again and again");
    wait_until("what the service has said", DEADLINE, || {
        manager.journal("cat").contains("another sessd has the registry").then_some(())
    });

    let stopped = manager.sessctl(&["daemon", "stop"]);
    assert_eq!((stopped.status, &*stopped.stderr), (0, ""));
    assert_answers(&manager, "the end of the other daemon");
    assert_eq!(manager.json(&["status"])["pid"], manager.main_pid().expect("the service runs"));
}

#[test]
fn what_systemd_tells_the_daemon_reaches_no_provider() {
    let Some(manager) = installed() else { return };
    let script = "#!/bin/sh\nenv >~/env; ulimit -Sn >~/limit; ls /proc/self/fd >~/fds\n";
    let program = manager.write("telling-echo", script, 0o700);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    manager.write(".config/sessd/config.toml", &config, 0o600);
    let failed = manager.sessctl(&["send", "--new", "echo", "hi"]);
    assert_eq!(failed.status, 6, "{}", failed.stderr);
    let read = |name: &str| fs::read_to_string(manager.home().join(name)).unwrap();
    for name in ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "INVOCATION_ID", "JOURNAL_STREAM"] {
        let environment = read("env");
        assert!(!environment.lines().any(|line| line.starts_with(name)), "{environment}");
    }
    // Beside the three there is only the one that `ls` itself has opened.
    assert_eq!(read("fds").lines().count(), 4, "{}", read("fds"));
    let soft = manager.property("sessd.service", "LimitNOFILESoft");
    assert_eq!(read("limit").trim(), soft, "a provider has the daemon's own limit");
}
