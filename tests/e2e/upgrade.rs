//! Daemons of another version: an idle older one makes room, everything else is left alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

use sessd_proto::PROTOCOL_VERSION;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;

/// Starts a daemon of an earlier protocol and waits until it answers.
fn old_daemon(sandbox: &Sandbox, state: &str) -> Child {
    let socket = sandbox.socket();
    for folder in [socket.parent().unwrap(), &sandbox.state_dir()] {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut command: Command = sandbox.command(env!("CARGO_BIN_EXE_old-daemon"));
    command.arg(sandbox.state_dir().join("sessd.lock")).arg(&socket).arg(state);
    let daemon = command.spawn().unwrap();
    wait_until("the old daemon", DEADLINE, || socket.exists().then_some(()));
    daemon
}

#[test]
fn an_idle_older_daemon_is_replaced_by_the_next_call() {
    let sandbox = Sandbox::new(BINARIES);
    let mut old = old_daemon(&sandbox, "idle");
    let status = sandbox.json(&["status"]);
    assert_eq!(status["protocol"], PROTOCOL_VERSION);
    assert_ne!(status["pid"], old.id());
    wait_until("the end of the old one", DEADLINE, || old.try_wait().unwrap());
}

#[test]
fn an_idle_older_daemon_on_another_socket_is_replaced_too() {
    let sandbox = Sandbox::new(BINARIES);
    let mut old = old_daemon(&sandbox, "idle");
    let socket = sandbox.socket().with_file_name("other.sock");
    let status = sandbox.json(&["--socket", socket.to_str().unwrap(), "status"]);
    assert_eq!(status["protocol"], PROTOCOL_VERSION);
    assert_eq!(status["socket"], socket.to_str().unwrap());
    wait_until("the end of the old one", DEADLINE, || old.try_wait().unwrap());
}

#[test]
fn an_older_daemon_with_turns_to_finish_is_left_alone() {
    let sandbox = Sandbox::new(BINARIES);
    let mut old = old_daemon(&sandbox, "busy");
    let output = sandbox.sessctl(&["list"]);
    assert_eq!(output.status, 9, "{}", output.stderr);
    assert!(output.stderr.contains("version 0.0.9 (protocol 0)"), "{}", output.stderr);
    assert!(output.stderr.contains("sessctl daemon restart"), "{}", output.stderr);
    assert_eq!(old.try_wait().unwrap(), None);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0, "when it is asked for");
    assert_eq!(sandbox.json(&["status"])["protocol"], PROTOCOL_VERSION);
    wait_until("the end of the old one", DEADLINE, || old.try_wait().unwrap());
}
