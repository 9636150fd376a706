//! Promise: a caller's own name always means one session, whatever happens to the session.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use sessd_proto::FaultCode;
use sessd_proto::turn::{SendRequest, TurnOutputRequest, TurnState};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::shifted_clock::ShiftedClock;
use uuid::Uuid;

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::cleanup::{DAY_MS, HOUR_MS, machine, pass};
use crate::echo::sent;
use crate::scene::{fault, show};

const SEND: [&str; 4] = ["send", "@discord:42", "--agent", "echo"];

/// `sessctl send @discord:42 --agent echo PROMPT`; what was answered.
#[track_caller]
fn send(sandbox: &Sandbox, prompt: &str) -> String {
    let output = sandbox.sessctl(&[&SEND[..], &[prompt]].concat());
    assert_eq!(output.status, 0, "{output:?}");
    output.stdout
}

/// The keys in a list with the ids that they mean.
fn listed(sandbox: &Sandbox, words: &[&str]) -> Vec<(String, String)> {
    let page = sandbox.json(&[&["key", "list"], words].concat());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let keys = page["keys"].as_array().unwrap().iter();
    keys.map(|entry| (text(&entry["key"]), text(&entry["session"]["id"]))).collect()
}

#[test]
fn a_key_gets_or_creates_one_session_for_ever() {
    let sandbox = Sandbox::new(BINARIES);
    let unknown = fault(&sandbox, &["send", "@discord:42", "hello"], 3);
    assert_eq!(unknown.code, FaultCode::NotFound);
    assert!(unknown.hint.unwrap().contains("sessctl send @discord:42 --agent "));

    assert_eq!(send(&sandbox, "one"), "turn 1, and you began with: one\n");
    assert_eq!(send(&sandbox, "two"), "turn 2, and you began with: one\n");
    let session = show(&sandbox, "@discord:42");
    assert_eq!((session.keys, &*session.agent), (vec!["@discord:42".to_owned()], "echo"));
    assert_eq!(sandbox.json(&["list"])["sessions"][0]["keys"][0], "@discord:42");
    sandbox.kill_daemon();
    assert_eq!(send(&sandbox, "three"), "turn 3, and you began with: one\n");
    let plain = sandbox.sessctl(&["send", "@discord:42", "four"]);
    assert_eq!(plain.stdout, "turn 4, and you began with: one\n");
    let plan = sandbox.json(&["resume", "--plan", "@discord:42"]);
    assert!(plan["args"].as_array().unwrap().contains(&(*session.id).into()), "{plan}");

    let other = sandbox.sessctl(&["send", "@discord:42", "--agent", "claude", "five"]);
    assert_fault(&other, 2, "another agent");
    assert!(other.stderr.contains("belongs to agent echo, not to claude"), "{}", other.stderr);
    assert_eq!(sandbox.ids(), [session.id]);
}

#[test]
fn a_hundred_first_messages_on_one_key_start_one_session() {
    const CALLERS: usize = 100;
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let together = Barrier::new(CALLERS);
    let first_message = |number: usize| {
        let client = sandbox.client();
        let request = SendRequest {
            turn_id: Uuid::new_v4().to_string(),
            selector: Some("@discord:42".to_owned()),
            new_agent: Some("echo".to_owned()),
            cwd: sandbox.home().to_str().unwrap().to_owned(),
            prompt: format!("message {number}"),
            ..SendRequest::default()
        };
        together.wait();
        let sent = sent(&sandbox, client, &request);
        (sent.session.id, sent.turn.id)
    };
    let sent: Vec<_> = thread::scope(|scope| {
        let callers = (0..CALLERS).map(|number| scope.spawn(move || first_message(number)));
        let callers: Vec<_> = callers.collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let ids: BTreeSet<_> = sent.iter().map(|(session, _)| session.clone()).collect();
    assert_eq!(Vec::from_iter(ids), sandbox.ids(), "more than one session");

    let mut client = sandbox.client();
    let mut answer = |turn_id: &String| loop {
        let asked = TurnOutputRequest { turn_id: turn_id.clone(), wait_ms: 60_000, after: 0 };
        let output = client.turn_output(asked).unwrap();
        if output.turn.state.is_final() {
            assert_eq!(output.turn.state, TurnState::Succeeded, "{:?}", output.turn.fault);
            break output
                .events
                .into_iter()
                .find(|event| event.kind.as_str() == "text")
                .unwrap()
                .text
                .unwrap();
        }
    };
    let answers: BTreeSet<_> = sent.iter().map(|(_, turn)| answer(turn)).collect();
    // Each saw all that came before it, so each has a number of its own.
    let first = answers.first().unwrap().split_once("with: ").unwrap().1.to_owned();
    let numbered = (1..=CALLERS).map(|count| format!("turn {count}, and you began with: {first}"));
    assert_eq!(answers, numbered.collect());
}

#[test]
fn key_binds_lists_moves_and_drops() {
    let sandbox = Sandbox::new(BINARIES);
    let [one, two] = ["one", "two"].map(|prompt| sandbox.new_session(prompt));
    let bind = |key: &str, id: &str| sandbox.json(&["key", "bind", key, id]);
    assert_eq!(bind("@b", &one)["sessions"][0]["keys"][0], "@b");
    bind("@b", &one);
    bind("@a", &one[..8]);
    bind("@c", "@a");
    let taken = fault(&sandbox, &["key", "bind", "@b", &two], 2);
    assert!(taken.hint.unwrap().contains("sessctl key move @b"), "{}", taken.message);
    let pairs = |keys: &[(&str, &String)]| -> Vec<(String, String)> {
        keys.iter().map(|(key, id)| ((*key).to_owned(), (*id).clone())).collect()
    };
    assert_eq!(listed(&sandbox, &[]), pairs(&[("@a", &one), ("@b", &one), ("@c", &one)]));
    assert_eq!(listed(&sandbox, &["--limit", "2"]), pairs(&[("@a", &one), ("@b", &one)]));
    assert_eq!(sandbox.json(&["key", "list", "--limit", "2"])["next"], "@b");
    assert_eq!(listed(&sandbox, &["--after", "@b"]), pairs(&[("@c", &one)]));
    assert!(sandbox.json(&["key", "list"])["next"].is_null());

    sandbox.json(&["key", "move", "@b", &two]);
    let unbound = fault(&sandbox, &["key", "move", "@z", &two], 3);
    assert!(unbound.hint.unwrap().contains("sessctl key bind @z"));
    assert_eq!(sandbox.json(&["key", "drop", "@a"])["sessions"][0]["id"], *one);
    assert_eq!(sandbox.json(&["key", "drop", "@a"])["sessions"], serde_json::json!([]));
    sandbox.kill_daemon();
    assert_eq!(listed(&sandbox, &[]), pairs(&[("@b", &two), ("@c", &one)]));
    let text = sandbox.sessctl(&["key", "list"]).stdout;
    assert!(text.starts_with(&format!("@b\t{two}\techo\tactive\t")), "{text}");
}

#[test]
fn an_invalid_key_is_refused() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let longest = format!("@{}", "x".repeat(199));
    for key in ["@a", "@Ünï:✓", "@a/b?c=d&e", "@@", &longest] {
        let bound = sandbox.sessctl(&["key", "bind", key, &id]);
        assert_eq!(bound.status, 0, "{bound:?}");
        assert_eq!(show(&sandbox, key).id, id);
    }
    let long = format!("{longest}x");
    for key in ["", "@", "a", "@a b", "@a\tb", "@a\u{7f}", "@a\u{a0}b", &long] {
        assert_fault(&sandbox.sessctl(&["key", "bind", key, &id]), 2, key);
        if key.starts_with('@') {
            let sent = sandbox.sessctl(&["send", key, "--agent", "echo", "two"]);
            assert_fault(&sent, 2, key);
        }
    }
    let no_key = sandbox.sessctl(&["send", &id, "--agent", "echo", "two"]);
    assert_fault(&no_key, 2, "an id");
    assert_eq!(sandbox.ids(), [id]);
}

/// The session of a bot's key may be in the trash for years: the key never means nothing, or
/// another session, in silence.
#[test]
fn a_key_survives_the_trash() {
    let Some((sandbox, clock)) = machine() else { return };
    assert_eq!(send(&sandbox, "one"), "turn 1, and you began with: one\n");
    let id = show(&sandbox, "@discord:42").id;
    let other = sandbox.new_session("other");
    sandbox.json(&["delete", &id, &other]);
    let refused = sandbox.sessctl(&[&SEND[..], &["two"]].concat());
    assert_fault(&refused, 5, "in the trash");
    look(&sandbox, &clock, 40 * DAY_MS);
    look(&sandbox, &clock, 2 * HOUR_MS);
    assert_fault(&sandbox.sessctl(&["show", &other]), 3, "it left the trash");
    assert_eq!(listed(&sandbox, &[]), [("@discord:42".to_owned(), id.clone())]);

    sandbox.json(&["undelete", "@discord:42"]);
    assert_eq!(send(&sandbox, "two"), "turn 2, and you began with: one\n");
    sandbox.json(&["delete", &id]);
    sandbox.json(&["key", "drop", "@discord:42"]);
    look(&sandbox, &clock, 40 * DAY_MS);
    look(&sandbox, &clock, 2 * HOUR_MS);
    assert_fault(&sandbox.sessctl(&["show", &id]), 3, "nothing protects it any more");
}

fn look(sandbox: &Sandbox, clock: &ShiftedClock, after_ms: i64) {
    pass(sandbox, clock, after_ms);
    sandbox.json(&["cleanup"]);
}
