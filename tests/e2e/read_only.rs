//! The registry cannot be written, as its file or its folder is read-only: a fault says so, what
//! can be read still is, nothing acknowledged is lost, and all works again by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use sessd_tests::other_user::OtherUsers;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;

/// A sandbox whose owner is not root, as nothing is read-only to root.
struct Machine {
    sandbox: Sandbox,
    users: OtherUsers,
    id: String,
}

impl Machine {
    fn new() -> Option<Self> {
        let sandbox = Sandbox::new(BINARIES);
        let users = OtherUsers::of(&sandbox)?;
        let mut machine = Self { sandbox, users, id: String::new() };
        let sent = machine.call(&["--json", "send", "--new", "echo", "one"]);
        let sent: Value = serde_json::from_str(&sent.stdout).unwrap();
        machine.id = sent["session"]["id"].as_str().unwrap().to_owned();
        Some(machine)
    }

    fn call(&self, words: &[&str]) -> Output {
        let mut command = self.users.owner(&self.sandbox, BINARIES.sessctl);
        self.sandbox.run(command.args(words), DEADLINE)
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.call(&[&["--json"], words].concat());
        assert_eq!(output.status, 0, "{words:?}: {}", output.stderr);
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// The paths that are made read-only, and their modes before.
    fn places(&self) -> [(PathBuf, u32, u32); 2] {
        let state = self.sandbox.state_dir();
        [(state.join("sessd.db"), 0o400, 0o600), (state, 0o500, 0o700)]
    }
}

fn set_mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_daemon_on_a_read_only_disk_says_so_until_it_is_not() {
    let Some(machine) = Machine::new() else { return };
    for (place, closed, open) in machine.places() {
        assert_eq!(machine.call(&["daemon", "stop"]).status, 0);
        let registry = machine.sandbox.state_dir().join("sessd.db");
        let before = fs::read(&registry).unwrap();
        // A daemon that ends may leave them, empty, and would then need to make no file.
        for side in ["sessd.db-wal", "sessd.db-shm"] {
            let _ = fs::remove_file(registry.with_file_name(side));
        }
        set_mode(&place, closed);
        for _ in 0..2 {
            for words in [&["list"][..], &["show", &machine.id], &["tag", &machine.id, "x"]] {
                let what = format!("{} is read-only: {words:?}", place.display());
                let output = machine.call(words);
                assert_fault(&output, 1, &what);
                assert!(output.stderr.contains("the registry"), "{what}: {}", output.stderr);
                let output = machine.call(&[&["--json"], words].concat());
                let fault: Value = serde_json::from_str(&output.stderr).unwrap();
                assert_eq!(fault["error"]["code"], "storage", "{what}");
            }
            assert_eq!(machine.json(&["status"])["problems"].as_array().unwrap().len(), 1);
        }
        assert!(fs::read(&registry).unwrap() == before, "it was changed");
        let daemon = machine.sandbox.daemon_pid();
        set_mode(&place, open);
        wait_until("the registry", DEADLINE, || {
            (machine.call(&["tag", &machine.id, "room"]).status == 0).then_some(())
        });
        assert_eq!(machine.sandbox.daemon_pid(), daemon, "it is another daemon");
        let status = machine.json(&["status"]);
        assert_eq!((&status["problems"], &status["sessions"]), (&json!([]), &json!(1)));
        wait_until("a sweep that has ended", DEADLINE, || {
            let jobs = machine.json(&["jobs"]);
            jobs["jobs"][1]["last"]["finished"].is_string().then_some(())
        });
    }
}

/// A file that is open stays as it was opened; what is reserved and marked beside it does not.
#[test]
fn a_running_daemon_whose_folder_becomes_read_only_goes_on() {
    let Some(machine) = Machine::new() else { return };
    let id = &*machine.id;
    let daemon = machine.sandbox.daemon_pid();
    for (place, closed, _) in machine.places() {
        set_mode(&place, closed);
    }
    let mut done = Vec::new();
    for tag in ["one", "two", "three"] {
        let output = machine.call(&["tag", id, tag]);
        if output.status == 0 {
            done.push(json!(tag));
        } else {
            assert_fault(&output, 1, tag);
        }
        assert_eq!(machine.json(&["show", id])["id"], *id);
        assert_eq!(machine.json(&["list"])["sessions"].as_array().unwrap().len(), 1);
    }
    for (place, _, open) in machine.places() {
        set_mode(&place, open);
    }
    assert_eq!(machine.call(&["tag", id, "four"]).status, 0);
    assert_eq!(machine.sandbox.daemon_pid(), daemon, "it is another daemon");
    machine.sandbox.kill_daemon();
    let tags = machine.json(&["show", id])["tags"].as_array().unwrap().clone();
    assert!(done.iter().chain([&json!("four")]).all(|tag| tags.contains(tag)), "{tags:?}");
}
