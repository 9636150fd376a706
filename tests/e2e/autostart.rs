//! Starting the daemon on first use: many clients start one, clients with other environments find
//! it, and a failed start is explained.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sessd_proto::PROTOCOL_VERSION;
use sessd_proto::preface::{LENGTH, Preface};
use sessd_tests::report::figure;
use sessd_tests::rounds;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::{DEADLINE, pause, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;

/// The state of the daemon that a round of clients finds.
const FOUND: [&str; 6] = [
    "nothing",
    "stale socket",
    "killed in between",
    "no lock",
    "plain stop",
    "killed in between, from two environments",
];

#[test]
fn any_number_of_clients_at_once_start_one_daemon() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let count = rounds(6, 300);
    let mut slowest = Duration::ZERO;
    for round in 0..count {
        let found = FOUND[usize::try_from(round).unwrap() % FOUND.len()];
        match found {
            "nothing" | "plain stop" => {
                assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
            }
            "no lock" => {
                sandbox.kill_daemon();
                fs::remove_file(sandbox.state_dir().join("sessd.lock")).unwrap();
            }
            "stale socket" => sandbox.kill_daemon(),
            _ => {}
        }
        let started = Instant::now();
        let outputs: Vec<Output> = thread::scope(|scope| {
            let client = |number: u64| {
                let mut command = sandbox.command(BINARIES.sessctl);
                if found.ends_with("environments") && number.is_multiple_of(2) {
                    // It would listen elsewhere.
                    command.env("XDG_RUNTIME_DIR", sandbox.dir("elsewhere"));
                }
                scope.spawn(move || listed(command))
            };
            let clients: Vec<_> = (0..24).map(client).collect();
            if found.starts_with("killed") {
                pause(Duration::from_millis(round % 7));
                sandbox.kill_daemon();
            }
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        slowest = slowest.max(started.elapsed());
        for output in outputs {
            assert_eq!((output.status, &*output.stderr), (0, ""), "round {round}, {found}");
            assert!(output.stdout.contains(&id), "round {round}, {found}: {output:?}");
        }
        // On a busy machine the daemon may be killed after it has served all of them.
        assert_eq!(sandbox.sessctl(&["list"]).status, 0, "round {round}, {found}");
        assert_eq!(sandbox.daemons().len(), 1, "round {round}, {found}");
        assert_eq!(sandbox.daemons()[0], sandbox.daemon_pid().unwrap(), "{found}");
    }
    figure(&format!("{count} stampedes of 24 clients: none failed, the slowest took {slowest:?}"));
}

/// Lists, and says what came of it.
fn listed(mut command: Command) -> Output {
    let output = command.arg("list").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    Output { stdout: text(output.stdout), stderr: text(output.stderr), status }
}

#[test]
fn a_client_with_another_runtime_directory_finds_the_daemon() {
    let sandbox = Sandbox::new(BINARIES);
    let pid = sandbox.json(&["status"])["pid"].clone();
    let elsewhere = sandbox.dir("elsewhere");
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(["--json", "status"]).env("XDG_RUNTIME_DIR", &elsewhere);
    let output = sandbox.run(&mut command, DEADLINE);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&status["pid"], sandbox.daemons().len()), (&pid, 1));
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0, "it made something of its own");
}

#[test]
fn a_daemon_that_cannot_start_speaks_for_itself() {
    let mut sandbox = Sandbox::new(BINARIES);
    let program = sandbox.home().join("sessd");
    sandbox.set_env("SESSD_BIN", program.to_str().unwrap());
    assert_fault(&sandbox.sessctl(&["list"]), 8, "a program that is not there");
    for (status, expected) in [(1, 1), (70, 70), (3, 8)] {
        let script = format!(
            "#!/bin/sh\necho 'error: no room' >&2\necho 'hint: make some' >&2\nexit {status}\n"
        );
        sandbox.script("sessd", script);
        let output = sandbox.sessctl(&["list"]);
        assert_eq!(output.status, expected, "{output:?}");
        let words = "error: the daemon does not start: no room\nhint: make some\n";
        assert_eq!(output.stderr, words);
    }
    sandbox.script("sessd", "#!/bin/sh\nexit 0\n");
    let output = sandbox.sessctl(&["list"]);
    assert_fault(&output, 8, "a program that says it started and did not");
}

#[test]
fn start_stop_and_restart_may_be_repeated() {
    let sandbox = Sandbox::new(BINARIES);
    let call = |action: &str| {
        let answer = sandbox.json(&["daemon", action]);
        (answer["state"].as_str().unwrap().to_owned(), answer["pid"].as_i64())
    };
    assert_eq!(call("stop"), ("did not run".to_owned(), None));
    let started = call("start");
    assert_eq!((&*started.0, started.1), ("running", sandbox.daemon_pid().map(i64::from)));
    assert_eq!(call("start"), started);
    let restarted = call("restart");
    assert_ne!(restarted.1, started.1);
    assert_eq!(call("stop"), ("stopped".to_owned(), restarted.1));
    assert_eq!(call("stop").0, "did not run");
    assert!(!sandbox.socket().exists(), "the socket is left behind");
    assert_eq!(call("restart").0, "running");
    assert_eq!(sandbox.daemons().len(), 1);
}

#[test]
fn a_restarted_daemon_knows_everything_at_once() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    // At least one of these restarts is in the minute of the sweep before it.
    for _ in 0..3 {
        sandbox.sessctl(&["jobs", "run", "discovery"]);
        assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
        let listed = sandbox.sessctl(&["list"]);
        assert_eq!(listed.stderr, "", "the first sweep is not made at once");
        assert!(listed.stdout.starts_with(&id), "{}", listed.stdout);
    }
}

#[test]
fn a_second_daemon_is_refused_by_name() {
    let sandbox = Sandbox::new(BINARIES);
    let pid = sandbox.json(&["status"])["pid"].to_string();
    let output = sandbox.run(&mut sandbox.command(BINARIES.sessd), DEADLINE);
    assert_fault(&output, 4, "a second daemon");
    assert!(output.stderr.contains(&pid), "{}", output.stderr);
    assert_eq!(sandbox.json(&["status"])["pid"].to_string(), pid);
}

#[test]
fn every_file_is_private_with_any_umask() {
    let sandbox = Sandbox::new(BINARIES);
    let script = format!("umask 000; exec {} send --new echo hello", BINARIES.sessctl);
    let output = sandbox.run(sandbox.command("sh").args(["-c", &script]), DEADLINE);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let mut seen = Vec::new();
    for root in [sandbox.state_dir(), sandbox.runtime_dir().join("sessd")] {
        look(&root, &mut seen);
    }
    for wanted in
        ["sessd.db", "sessd.db-wal", "sessd.log", "sessd.lock", "start.lock", "sessd.sock"]
    {
        assert!(seen.iter().any(|name| name == wanted), "no {wanted} in {seen:?}");
    }
    assert!(seen.iter().any(|name| name.ends_with(".jsonl")), "no transcript in {seen:?}");
}

/// Looks at the modes of a whole tree.
pub(crate) fn look(path: &Path, seen: &mut Vec<String>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let expected = if kind.is_dir() { 0o700 } else { 0o600 };
    assert!(kind.is_dir() || kind.is_file() || kind.is_socket(), "{path:?}");
    assert_eq!(metadata.mode() & 0o777, expected, "{path:?}");
    seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    if kind.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), seen));
    }
}

#[test]
fn a_newer_daemon_is_named_with_its_version_and_left_alone() {
    let sandbox = Sandbox::new(BINARIES);
    let folder = sandbox.runtime_dir().join("sessd");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(sandbox.socket()).unwrap();
    let protocol = PROTOCOL_VERSION + 1;
    let newer = Preface { protocol, ..Preface::current(false) };
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&newer.to_bytes()).unwrap();
        let mut theirs = [0; LENGTH];
        stream.read_exact(&mut theirs).unwrap();
        // It hangs up without reading the request that came with the preface.
        drop(stream);
        (Preface::from_bytes(theirs), listener)
    });
    let output = sandbox.sessctl(&["list"]);
    assert_fault(&output, 9, "a newer daemon");
    for protocol in [PROTOCOL_VERSION, protocol] {
        let named = format!("(protocol {protocol})");
        assert!(output.stderr.contains(&named), "{}", output.stderr);
    }
    let (theirs, listener) = daemon.join().unwrap();
    assert_eq!(theirs, Some(Preface::current(false)));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was asked again");
    assert_eq!(sandbox.daemons(), [0; 0]);
}

/// Removes a folder in which another process may create files at any moment.
pub(crate) fn remove(folder: &Path) {
    let away = folder.with_extension("away");
    fs::rename(folder, &away).unwrap();
    wait_until("an empty folder", DEADLINE, || fs::remove_dir_all(&away).ok());
}

/// A logout takes the folder with the socket away, and the daemon may outlive it.
#[test]
fn a_daemon_whose_socket_was_removed_takes_its_name_again() {
    let sandbox = Sandbox::new(BINARIES);
    let before = sandbox.json(&["status"])["pid"].clone();
    remove(sandbox.socket().parent().unwrap());
    assert_eq!(sandbox.json(&["status"])["pid"], before);
    assert_eq!(sandbox.daemons().len(), 1);
}

#[test]
fn a_killed_daemon_costs_the_next_call_only_time() {
    let sandbox = Sandbox::new(BINARIES);
    let first = sandbox.json(&["status"])["pid"].clone();
    sandbox.kill_daemon();
    let second = sandbox.json(&["status"])["pid"].clone();
    assert_ne!(first, second);
    wait_until("one daemon", DEADLINE, || (sandbox.daemons().len() == 1).then_some(()));
}
