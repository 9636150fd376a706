//! The disk with the registry is full: writes fail with a word that says so, reads go on, nothing
//! acknowledged is lost, and everything works again by itself.

use rusqlite::Connection;
use serde_json::{Value, json};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::small_disk::SmallDisk;
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;

const MEGABYTES: u32 = 24;

/// A machine whose registry is on a small disk, and nothing else is.
fn machine() -> Option<(Sandbox, SmallDisk)> {
    let mut sandbox = Sandbox::new(BINARIES);
    let disk = SmallDisk::mount(&sandbox.state_dir(), MEGABYTES)?;
    let home = sandbox.dir("echo");
    sandbox.set_env("SESSD_ECHO_HOME", home.to_str().unwrap());
    Some((sandbox, disk))
}

fn problems(sandbox: &Sandbox) -> Value {
    sandbox.json(&["status"])["problems"].clone()
}

#[track_caller]
fn assert_recovers(sandbox: &Sandbox, disk: &SmallDisk, id: &str) {
    disk.empty();
    wait_until("the reserve", DEADLINE, || {
        let tagged = sandbox.sessctl(&["tag", id, "room"]);
        (tagged.status == 0 && problems(sandbox) == json!([])).then_some(())
    });
    let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    let check = registry.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
}

#[test]
fn every_write_on_a_full_disk_is_done_or_says_why_not() {
    let Some((sandbox, disk)) = machine() else { return };
    let [one, two] = ["one", "two"].map(|prompt| sandbox.new_session(prompt));
    let daemon = sandbox.daemon_pid();
    sandbox.wait_until_started();
    let listed = sandbox.ids();
    assert_eq!(problems(&sandbox), json!([]));
    let writes: [&[&str]; 14] = [
        &["tag", &one, "first"],
        &["untag", &one, "first"],
        &["pin", &two],
        &["unpin", &two],
        &["title", &one, "a title"],
        &["title", &one, "--clear"],
        &["delete", &two],
        &["undelete", &two],
        &["new", "echo"],
        &["send", "--new", "echo", "three"],
        &["send", &one, "more"],
        &["cleanup"],
        &["check", &one],
        &["jobs", "run", "discovery"],
    ];
    let mut refused = Vec::new();
    for words in writes {
        disk.fill();
        let output = sandbox.sessctl(&[&["--json"], words].concat());
        if output.status != 0 {
            let fault: Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
            assert_eq!(fault["error"]["code"], "storage", "{words:?}: {output:?}");
            assert_eq!(output.status, 1);
            refused.push(words[0]);
        }
        // Reading goes on, and what was there still is.
        let now = sandbox.ids();
        assert!(listed.iter().filter(|id| **id != two).all(|id| now.contains(id)), "{words:?}");
        assert_eq!(sandbox.json(&["show", &one])["id"], *one);
        assert!(problems(&sandbox)[0].as_str().unwrap().contains("is full"));
    }
    assert!(refused.contains(&"tag") && refused.contains(&"delete"), "{refused:?}");
    assert_recovers(&sandbox, &disk, &one);
    assert_eq!(sandbox.daemon_pid(), daemon, "it is another daemon");
    for words in writes {
        let output = sandbox.sessctl(&[&["--json"], words].concat());
        assert_eq!(output.status, 0, "{words:?}: {output:?}");
    }
}

/// A turn that ends on a full disk, and a lease of it, are written down when there is room.
#[test]
fn turns_that_run_on_a_full_disk_end_well() {
    let Some((sandbox, disk)) = machine() else { return };
    let gate = sandbox.gate();
    let mut sending = sandbox.command(BINARIES.sessctl);
    sending.args(["send", "--new", "echo", "one"]);
    let mut sending = Terminal::spawn(sending, 24, 80);
    let id = wait_until("a running turn", DEADLINE, || {
        let busy = sandbox.json(&["list", "--busy"]);
        busy["sessions"][0]["id"].as_str().map(str::to_owned)
    });
    sandbox.wait_until_started();
    disk.fill();
    assert_fault(&sandbox.sessctl(&["title", &id, "a title"]), 1, "full");
    disk.fill();
    gate.open(1);
    // Filled again and again: not even the reserve is left.
    for _ in 0..20 {
        disk.fill();
        assert_eq!(sandbox.json(&["show", &id])["id"], *id);
    }
    disk.empty();
    sending.wait_for_text("turn 1, and you began with: one", DEADLINE);
    assert!(sending.wait_exit(DEADLINE).success());
    gate.open(1);
    assert_eq!(sandbox.sessctl(&["send", &id, "two"]).status, 0);
}

#[test]
fn a_daemon_starts_on_a_full_disk() {
    let Some((sandbox, disk)) = machine() else { return };
    let id = sandbox.new_session("one");
    for restart in 0..3 {
        disk.fill();
        sandbox.kill_daemon();
        disk.fill();
        let shown = sandbox.json(&["show", &id]);
        assert_eq!(shown["title"], "one", "start {restart}");
        assert_recovers(&sandbox, &disk, &id);
    }
    let mut resumed = sandbox.command(BINARIES.sessctl);
    resumed.args(["resume", &id]);
    let mut resumed = Terminal::spawn(resumed, 24, 80);
    resumed.wait_for_text("turn 1", DEADLINE);
    resumed.key(Key::CtrlD);
    assert!(resumed.wait_exit(DEADLINE).success());
}
