//! Promise: a turn is an object of its own. It is listed, shown, followed from any point by
//! anybody, and cancelled, whoever sent it and whether or not that one is still there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sessd_tests::daemon::{Gate, is_running};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;

const FIRST: &str = "turn 1, and you began with: one\n";

/// A session whose agent waits at a gate.
pub(crate) fn gated() -> (Sandbox, Gate, String) {
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    gate.open(1);
    let id = sandbox.new_session("one");
    (sandbox, gate, id)
}

/// Sends without waiting; the id of the turn.
#[track_caller]
pub(crate) fn detach(sandbox: &Sandbox, words: &[&str]) -> String {
    let sent = sandbox.sessctl(&[&["send", "--detach"], words].concat());
    assert_eq!(sent.status, 0, "{sent:?}");
    assert!(sent.stderr.starts_with("session: "), "{sent:?}");
    sent.stdout.trim_end().to_owned()
}

#[track_caller]
pub(crate) fn wait_for_state(sandbox: &Sandbox, turn: &str, state: &str) -> Value {
    wait_until(&format!("{turn} {state}"), DEADLINE, || {
        Some(sandbox.json(&["turns", "show", turn])).filter(|turn| turn["state"] == state)
    })
}

/// The process of the agent that runs now.
#[track_caller]
pub(crate) fn agent(sandbox: &Sandbox) -> i32 {
    wait_until("an agent", DEADLINE, || {
        let busy = sandbox.json(&["list", "--busy"]);
        i32::try_from(busy["sessions"][0]["live"]["pid"].as_i64()?).ok()
    })
}

#[test]
fn turns_are_listed_newest_first_and_shown_by_the_beginning_of_their_ids() {
    let (sandbox, gate, id) = gated();
    let other = {
        gate.open(1);
        sandbox.new_session("uno")
    };
    let running = detach(&sandbox, &[&id, "two\n  lines"]);
    let queued = detach(&sandbox, &[&id, "three"]);
    wait_for_state(&sandbox, &running, "running");
    let ids = |words: &[&str]| -> Vec<String> {
        let listed = sandbox.json(&[&["turns"], words].concat());
        let turns = listed["turns"].as_array().unwrap().iter();
        turns.map(|turn| turn["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ids(&[]);
    assert_eq!((all.len(), &all[..2]), (4, &[queued.clone(), running.clone()][..]));
    assert_eq!(ids(&["--session", &id]), [&*queued, &*running, &*all[3]]);
    assert_eq!(ids(&["--session", &other]), [&*all[2]]);
    assert_eq!(ids(&["--state", "queued"]), [&*queued]);
    let page = sandbox.json(&["turns", "--limit", "3"]);
    let next = page["next"].as_str().unwrap();
    assert_eq!(ids(&["--after", next]), all[3..]);

    let shown = sandbox.json(&["turns", "show", &running[..8]]);
    assert_eq!((&shown["prompt"], &shown["agent"]), (&"two lines".into(), &"echo".into()));
    assert_eq!(shown["session_id"], *id);
    let table = sandbox.sessctl(&["turns"]).stdout;
    assert!(table.lines().next().unwrap().starts_with(&format!("{queued}\tqueued\t{id}\techo\t")));
    let pairs = sandbox.sessctl(&["turns", "show", &queued]).stdout;
    assert!(pairs.contains("prompt\tthree\n"), "{pairs}");
    for (words, status) in [
        (&["turns", "show", "01234567"][..], 3),
        (&["turns", "follow", "abc"], 3),
        (&["turns", "cancel", "no such turn"], 3),
        (&["turns", "--state", "lost"], 2),
        (&["turns", "--after", "x"], 2),
        (&["turns", "--session", "nothing-there"], 3),
    ] {
        assert_fault(&sandbox.sessctl(words), status, &format!("{words:?}"));
    }
    gate.open(2);
    wait_for_state(&sandbox, &queued, "succeeded");
}

#[test]
fn cancel_ends_what_runs_and_what_waits_and_nothing_else() {
    let (sandbox, gate, id) = gated();
    let running = detach(&sandbox, &[&id, "two"]);
    let [waiting, last] = ["three", "four"].map(|prompt| detach(&sandbox, &[&id, prompt]));
    let pid = agent(&sandbox);
    for _ in 0..2 {
        let cancelled = sandbox.json(&["turns", "cancel", &waiting]);
        assert_eq!(
            (&cancelled["state"], &cancelled["started_at"]),
            (&"cancelled".into(), &Value::Null)
        );
        assert_eq!(cancelled["fault"]["code"], "cancelled");
    }
    let said = sandbox.sessctl(&["turns", "cancel", &running[..8]]);
    assert_eq!(said.stdout, format!("{running} cancelled\n"));
    assert!(!is_running(pid), "its agent still runs");
    gate.open(1);
    wait_for_state(&sandbox, &last, "succeeded");
    assert_eq!(sandbox.json(&["turns", "cancel", &last])["state"], "succeeded");
    // Neither was told to the agent.
    gate.open(1);
    let next = sandbox.sessctl(&["send", &id, "five"]);
    assert_eq!(next.stdout, "turn 3, and you began with: one\n");
}

#[test]
fn cancel_ends_a_turn_that_waits_for_a_slot() {
    let (sandbox, gate, id) = gated();
    let others: Vec<_> =
        (0..3).map(|_| detach(&sandbox, &["--new", "echo", "somebody else"])).collect();
    others.iter().for_each(|turn| drop(wait_for_state(&sandbox, turn, "running")));
    let fourth = detach(&sandbox, &[&id, "two"]);
    assert_eq!(sandbox.json(&["turns", "cancel", &fourth])["state"], "cancelled");
    gate.open(3);
    others.iter().for_each(|turn| drop(wait_for_state(&sandbox, turn, "succeeded")));
}

#[test]
fn follow_goes_on_after_its_daemon_and_its_sender_are_gone() {
    let (mut sandbox, gate, id) = gated();
    sandbox.set_env("SESSD_TURNS_DEADLINE_S", "60");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    // The sender dies in the middle.
    let mut sender = spawn(&sandbox, &["send", &id, "two"]);
    let turn = wait_until("the turn", DEADLINE, || {
        let running = sandbox.json(&["turns", "--state", "running"]);
        Some(running["turns"][0]["id"].as_str()?.to_owned())
    });
    sender.kill().unwrap();
    sender.wait().unwrap();
    let follower = spawn(&sandbox, &["turns", "follow", &turn]);
    gate.open(1);
    let followed = follower.wait_with_output().unwrap();
    let second = "turn 2, and you began with: one\n";
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), second);
    let again = sandbox.sessctl(&["turns", "follow", &turn]);
    assert_eq!((again.status, &*again.stdout), (0, second));

    // The daemon dies under a follower.
    let turn = detach(&sandbox, &[&id, "three"]);
    wait_for_state(&sandbox, &turn, "running");
    let follower = spawn(&sandbox, &["turns", "follow", "--stream-json", &turn]);
    wait_until_connected(&follower);
    sandbox.kill_daemon();
    let followed = follower.wait_with_output().unwrap();
    assert_eq!(followed.status.code(), Some(6), "{followed:?}");
    let result: Value = serde_json::from_slice(&followed.stdout).unwrap();
    assert_eq!(result["turn"]["state"], "interrupted");
    let fault: Value = serde_json::from_slice(&followed.stderr).unwrap();
    assert_eq!(fault["error"]["code"], "interrupted");
}

/// The kernel interrupts a read with a deadline even when a shell stops and continues us.
#[test]
fn follow_goes_on_after_it_was_stopped_and_continued() {
    let (sandbox, gate, id) = gated();
    let turn = detach(&sandbox, &[&id, "two"]);
    wait_for_state(&sandbox, &turn, "running");
    let follower = spawn(&sandbox, &["turns", "follow", &turn]);
    wait_until_connected(&follower);
    let pid = Pid::from_child(&follower);
    let wait_for = |state: char| {
        wait_until(&format!("a follower in state {state}"), DEADLINE, || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", follower.id())).ok()?;
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state)).then_some(())
        });
    };
    // More often than a request is repeated.
    for _ in 0..10 {
        wait_for('S');
        kill_process(pid, Signal::STOP).unwrap();
        wait_for('T');
        kill_process(pid, Signal::CONT).unwrap();
    }
    gate.open(1);
    let followed = follower.wait_with_output().unwrap();
    assert!(followed.status.success(), "{followed:?}");
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), "turn 2, and you began with: one\n");
}

#[track_caller]
fn wait_until_connected(client: &Child) {
    let files = format!("/proc/{}/fd", client.id());
    wait_until("a client that has connected", DEADLINE, || {
        let mut links = fs::read_dir(&files).ok()?.flatten();
        let is_socket = |path: PathBuf| path.to_string_lossy().starts_with("socket:");
        links.any(|link| fs::read_link(link.path()).is_ok_and(is_socket)).then_some(())
    });
}

fn spawn(sandbox: &Sandbox, words: &[&str]) -> Child {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn events_are_streamed_as_json_and_followed_from_any_of_them() {
    let sandbox = Sandbox::new(BINARIES);
    let streamed = sandbox.sessctl(&["send", "--stream-json", "--new", "echo", "one"]);
    assert_eq!((streamed.status, &*streamed.stderr), (0, ""));
    let mut lines: Vec<Value> =
        streamed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = lines.pop().unwrap();
    assert_eq!(
        (&result["text"], &result["lost_context"]),
        (&FIRST.trim_end().into(), &false.into())
    );
    let types: Vec<_> = lines.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["started", "text", "result"]);
    assert!((1..).zip(&lines).all(|(seq, event)| event["seq"] == seq));
    let turn = result["turn"]["id"].as_str().unwrap();
    for (after, left) in [("0", 3), ("2", 1), ("9", 0)] {
        let rest = sandbox.sessctl(&["turns", "follow", "--stream-json", "--after", after, turn]);
        assert_eq!(rest.stdout.lines().count(), left + 1, "{rest:?}");
    }
    let refused = sandbox.sessctl(&["send", "--stream-json", "nothing-there", "one"]);
    let fault: Value = serde_json::from_str(&refused.stderr).expect("a fault in JSON");
    assert_eq!((refused.status, &fault["error"]["code"]), (3, &"not_found".into()));
}

#[test]
fn the_providers_own_lines_are_kept_only_on_request() {
    let sandbox = Sandbox::new(BINARIES);
    let plain = sandbox.sessctl(&["send", "--detach", "--new", "echo", "one"]);
    let plain = sandbox.sessctl(&["turns", "follow", "--raw", plain.stdout.trim_end()]);
    let note = "note: only `send --raw` records the provider's own lines\n";
    assert_eq!((plain.status, &*plain.stdout, &*plain.stderr), (0, "", note));
    let raw = sandbox.sessctl(&["send", "--raw", "--new", "echo", "one"]);
    let own: Vec<Value> =
        raw.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((own.len(), &own[1]["text"]), (3, &FIRST.trim_end().into()), "{raw:?}");
    let events = |words: &[&str]| -> Vec<String> {
        let said = sandbox.sessctl(&[&["send", "--stream-json", "--new", "echo"], words].concat());
        let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|event| Some(event["type"].as_str()?.to_owned())).collect()
    };
    assert_eq!(events(&["--raw", "one"]), ["raw", "started", "raw", "text", "raw", "result"]);
    assert_eq!(events(&["one"]), ["started", "text", "result"]);
}

#[test]
fn files_follow_the_prompt() {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.write("notes.txt", "two\nthree");
    sandbox.write("binary", [0xff, 0xfe]);
    sandbox.write("large", "x".repeat(1_000_001));
    let words = ["send", "--new", "echo", "look", "--file", "notes.txt", "--file", "notes.txt"];
    let said = sandbox.sessctl(&words);
    let file = "<file name=\"notes.txt\">\ntwo\nthree\n</file>";
    assert_eq!(said.stdout, format!("turn 1, and you began with: look\n\n{file}\n\n{file}\n"));
    let only = sandbox.sessctl(&["send", "--new", "echo", "--file", "notes.txt"]);
    assert_eq!(only.stdout, format!("turn 1, and you began with: {file}\n"));
    for name in ["binary", "large", "missing", "."] {
        let refused = sandbox.sessctl(&["send", "--new", "echo", "look", "--file", name]);
        assert_fault(&refused, 2, name);
    }
    assert!(Path::new(&sandbox.home().join("large")).exists());
}

#[test]
fn a_turn_has_a_deadline_of_its_own() {
    let (sandbox, _gate, id) = gated();
    let late = sandbox.sessctl(&["send", "--timeout", "1s", &id, "two"]);
    assert_eq!((late.status, &*late.stdout), (7, ""), "{late:?}");
    assert!(late.stderr.contains("took too long"), "{late:?}");
    for refused in ["2h", "0s", "soon"] {
        let refused = sandbox.sessctl(&["send", "--timeout", refused, &id, "two"]);
        assert_fault(&refused, 2, "no deadline");
    }
    let none = sandbox.sessctl(&["send", "--timeout", "0s", &id, "two"]);
    assert!(none.stderr.contains("between 1 ms and 1 h"), "{none:?}");
}

/// Somebody who has resumed a session of the built-in agent, which has greeted them.
pub(crate) fn held(sandbox: &Sandbox, id: &str) -> Child {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(["resume", id]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().unwrap();
    let mut greeting = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut greeting).unwrap();
    holder
}

#[test]
fn a_prompt_waits_for_whoever_has_the_session_if_it_is_to() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let mut holder = held(&sandbox, &id);
    let busy = sandbox.sessctl(&["send", &id, "two"]);
    assert_fault(&busy, 4, "somebody has it");
    let pid = holder.id();
    assert!(busy.stderr.contains(&format!("process {pid} (")), "{busy:?}");
    assert!(busy.stderr.contains(" since 2"), "{busy:?}");
    let [cancelled, waiting] =
        ["never", "two"].map(|prompt| detach(&sandbox, &["--wait", &id, prompt]));
    assert_eq!(sandbox.json(&["turns", "cancel", &cancelled])["state"], "cancelled");
    assert_eq!(sandbox.json(&["turns", "show", &waiting])["state"], "queued");
    // Also by the next daemon.
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_eq!(sandbox.json(&["turns", "show", &waiting])["state"], "queued");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    wait_for_state(&sandbox, &waiting, "succeeded");
    let said = sandbox.sessctl(&["turns", "follow", &waiting]);
    assert_eq!(said.stdout, "turn 2, and you began with: one\n");
}

#[test]
fn steal_ends_our_turn_or_asks_who_has_the_session() {
    let (sandbox, gate, id) = gated();
    let first = detach(&sandbox, &[&id, "two"]);
    wait_for_state(&sandbox, &first, "running");
    let next = detach(&sandbox, &["--steal", &id, "three"]);
    wait_for_state(&sandbox, &first, "cancelled");
    gate.open(1);
    wait_for_state(&sandbox, &next, "succeeded");

    gate.open(1);
    let mut holder = held(&sandbox, &id);
    assert_fault(&sandbox.sessctl(&["send", &id, "four"]), 4, "somebody has it");
    gate.open(1);
    let stolen = sandbox.sessctl(&["send", "--steal", &id, "four"]);
    assert_eq!(stolen.stdout, "turn 3, and you began with: one\n", "{stolen:?}");
    assert!(!holder.wait().unwrap().success());
    let fork = sandbox.sessctl(&["send", "--fork", &id, "five"]);
    assert_fault(&fork, 1, "no copies");
    let _ = fs::remove_file(sandbox.home().join("gate"));
}
