//! Promise: a state directory, a store or a transcript that file modes close to us is named, and
//! gives no verdict. Modes do not stop root, so that root runs everything here as another user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use rustix::process::getuid;
use sessd_proto::Session;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::DEADLINE;
use sessd_tests::{report, tools};

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::scene::NEVER;

const OTHER_USER: u32 = 4242;

/// A sandbox of a user whom modes stop, with two sessions;
/// `None` if there can be no such user here.
fn sandbox() -> Option<Sandbox> {
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
    sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
    let record = serde_json::json!({
        "type": "user", "message": {"role": "user", "content": "a question"},
        "timestamp": "2026-11-21T08:00:00.000Z", "cwd": sandbox.home(),
    });
    for name in ["one", "two"] {
        sandbox.write(&format!(".claude/projects/folder/{name}.jsonl"), format!("{record}\n"));
    }
    give(sandbox.home().parent().unwrap());
    if !getuid().is_root() {
        return Some(sandbox);
    }
    tools::require("setpriv")?;
    let works = as_other_user(&sandbox, &["--version"]).status == 0;
    if !works {
        report::skipped("no other user may run what was built here");
    }
    works.then_some(sandbox)
}

fn give(path: &Path) {
    if getuid().is_root() {
        lchown(path, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
        if path.is_dir() && !path.is_symlink() {
            fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
        }
    }
}

fn as_other_user(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    if !getuid().is_root() {
        return sandbox.sessctl(arguments);
    }
    let ids = [format!("--reuid={OTHER_USER}"), format!("--regid={OTHER_USER}")];
    let mut command = sandbox.command("setpriv");
    command.args(ids).args(["--clear-groups", BINARIES.sessctl]).args(arguments);
    sandbox.run(&mut command, DEADLINE)
}

#[track_caller]
fn verdicts(sandbox: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let output = as_other_user(sandbox, &[&["--json"], arguments].concat());
    assert_eq!(output.status, 0, "{output:?}");
    let answer: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let found: Vec<Session> = serde_json::from_value(answer["sessions"].clone()).unwrap();
    let verdict = |found: &Session| {
        format!(
            "{} {}",
            found.status,
            found.reason.map(sessd_proto::Reason::as_str).unwrap_or_default()
        )
    };
    found.iter().map(verdict).collect()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let Some(sandbox) = sandbox() else { return };
    let state = sandbox.dir(".local/state/sessd");
    give(&sandbox.home());
    set_mode(&state, 0o500);
    let output = as_other_user(&sandbox, &["list"]);
    assert_fault(&output, 1, "a state directory of mode 500");
    assert!(output.stderr.contains(state.to_str().unwrap()), "{output:?}");
    assert!(output.stderr.contains("Permission denied"), "{output:?}");
    set_mode(&state, 0o700);
    assert_eq!(verdicts(&sandbox, &["list"]), ["active "; 2]);
}

#[test]
fn a_store_that_cannot_be_read_gives_no_verdict() {
    let Some(sandbox) = sandbox() else { return };
    assert_eq!(verdicts(&sandbox, &["list"]), ["active "; 2]);
    let projects = sandbox.home().join(".claude/projects");
    for hidden in [projects.join("folder"), projects] {
        set_mode(&hidden, 0o000);
        let unreadable = verdicts(&sandbox, &["check", "--all"]);
        let ours = ["unknown home_unreadable", "unknown transcript_unreadable"];
        assert!(unreadable.iter().all(|found| ours.contains(&&**found)), "{unreadable:?}");
        set_mode(&hidden, 0o700);
        assert_eq!(verdicts(&sandbox, &["check", "--all"]), ["active "; 2]);
    }
}

/// A sweep cannot see a change of mode, so it must not remember the file as read.
#[test]
fn an_unreadable_transcript_is_read_by_a_later_sweep() {
    let Some(sandbox) = sandbox() else { return };
    let transcript = sandbox.home().join(".claude/projects/folder/two.jsonl");
    set_mode(&transcript, 0o000);
    assert_eq!(verdicts(&sandbox, &["list"]).len(), 1);
    set_mode(&transcript, 0o600);
    assert_eq!(as_other_user(&sandbox, &["jobs", "run", "discovery"]).status, 0);
    assert_eq!(verdicts(&sandbox, &["list"]).len(), 2);
}
