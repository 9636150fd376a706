//! Promise: the words of an agent are stored and passed on to followers while they arrive, and
//! nothing of them is lost when the turn ends early.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use serde_json::Value;
use sessd_tests::daemon::Gate;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::hostile_agents::replace_agent;
use crate::turn_verbs::wait_for_state;

/// Says something, waits at the gate, and says the rest; its fifth argument is its session.
const SCRIPT: &str = r#"#!/bin/sh
read -r prompt
echo "{\"type\":\"started\",\"data\":{\"provider_session_id\":\"$5\"}}"
echo '{"type":"text","text":"first words"}'
read -r pass <~/gate
echo '{"type":"text","text":"last words"}'
echo '{"type":"result","text":"last words"}'
"#;

const FIRST: &str = "first words\n";
const ALL: &str = "first words\nlast words\n";

fn hesitant() -> (Sandbox, Gate) {
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    replace_agent(&sandbox, "echo", SCRIPT);
    (sandbox, gate)
}

/// Starts the client, with its output in a file of this name.
fn start(sandbox: &Sandbox, words: &[&str], name: &str) -> Child {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(words).stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(File::create(sandbox.home().join(name)).unwrap()).spawn().unwrap()
}

#[track_caller]
fn wait_for_words(sandbox: &Sandbox, name: &str, words: &str) {
    wait_until(&format!("{words:?} in the {name}'s output"), DEADLINE, || {
        (fs::read_to_string(sandbox.home().join(name)).unwrap() == words).then_some(())
    });
}

/// Starts a turn and waits for its first words; returns its id.
#[track_caller]
fn start_turn(sandbox: &Sandbox) -> String {
    let mut sender = start(sandbox, &["send", "--new", "echo", "talk"], "sender");
    wait_for_words(sandbox, "sender", FIRST.trim_end());
    sender.kill().unwrap();
    sender.wait().unwrap();
    let turns = sandbox.json(&["turns", "--state", "running"]);
    let [turn] = &turns["turns"].as_array().unwrap()[..] else { panic!("{turns}") };
    turn["id"].as_str().unwrap().to_owned()
}

/// The turn has ended, with what it had said and no more.
#[track_caller]
fn assert_kept(sandbox: &Sandbox, turn: &str, state: &str, status: i32) {
    wait_for_state(sandbox, turn, state);
    let followed = sandbox.sessctl(&["turns", "follow", turn]);
    assert_eq!((followed.status, &*followed.stdout), (status, FIRST), "{state}: {followed:?}");
}

#[test]
fn an_answer_is_passed_on_while_it_arrives() {
    let (sandbox, gate) = hesitant();
    let mut sender = start(&sandbox, &["send", "--new", "echo", "talk"], "sender");
    // A part of its line may follow.
    wait_for_words(&sandbox, "sender", FIRST.trim_end());
    let turns = sandbox.json(&["turns", "--state", "running"]);
    let turn = turns["turns"][0]["id"].as_str().expect("a turn that runs");
    let mut follower = start(&sandbox, &["turns", "follow", turn], "follower");
    wait_for_words(&sandbox, "follower", FIRST.trim_end());
    // From the middle of a turn that runs.
    let words = ["turns", "follow", "--stream-json", "--after", "1", turn];
    let mut late = start(&sandbox, &words, "late");
    let first = wait_until("the second event", DEADLINE, || {
        let said = fs::read_to_string(sandbox.home().join("late")).unwrap();
        said.ends_with('\n').then_some(said)
    });
    let first: Value = serde_json::from_str(&first).expect("one event");
    assert_eq!((&first["seq"], &first["text"]), (&2.into(), &"first words".into()));
    assert_eq!(sandbox.json(&["turns", "show", turn])["state"], "running");
    gate.open(1);
    for client in [&mut sender, &mut follower, &mut late] {
        assert!(client.wait().unwrap().success());
    }
    wait_for_words(&sandbox, "sender", ALL);
    wait_for_words(&sandbox, "follower", ALL);
    let late = fs::read_to_string(sandbox.home().join("late")).unwrap();
    let seqs = late
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64());
    assert_eq!(seqs.collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn output_outlives_a_killed_daemon() {
    let (sandbox, _gate) = hesitant();
    let turn = start_turn(&sandbox);
    sandbox.kill_daemon();
    assert_kept(&sandbox, &turn, "interrupted", 6);
}

#[test]
fn output_outlives_a_restarted_daemon() {
    let (sandbox, _gate) = hesitant();
    let turn = start_turn(&sandbox);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_kept(&sandbox, &turn, "interrupted", 6);
}

#[test]
fn output_outlives_a_cancelled_or_timed_out_turn() {
    let (sandbox, _gate) = hesitant();
    let turn = start_turn(&sandbox);
    assert_eq!(sandbox.json(&["turns", "cancel", &turn])["state"], "cancelled");
    assert_kept(&sandbox, &turn, "cancelled", 1);
    let late = sandbox.sessctl(&["send", "--timeout", "5s", "--new", "echo", "talk"]);
    assert_eq!((late.status, &*late.stdout), (7, FIRST), "{late:?}");
}
