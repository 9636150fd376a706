//! Promise: a prompt that has waited meets its session as that is when its turn comes.

use std::fs;

use sessd_proto::FaultCode;
use sessd_proto::turn::{SendRequest, TurnState};
use sessd_tests::real_cli::Claude;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::echo::{ended, request, said};
use crate::scene::{Scene, answer};
use crate::turn_verbs::{detach, gated, wait_for_state};

/// Its first turn had begun, though nobody had seen its transcript yet.
#[test]
fn a_session_that_was_cut_off_in_its_first_answer_is_not_begun_again() {
    let Some(scene) = Scene::of(&Claude) else { return };
    assert_eq!(scene.sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = scene.sandbox.client();
    let first = SendRequest {
        new_agent: Some("claude".to_owned()),
        cwd: scene.project.to_str().unwrap().to_owned(),
        ..request("alpha [[sleep 600]]")
    };
    let id = client.send(first).unwrap().session.id;
    let next = SendRequest { selector: Some(id), ..request("beta question") };
    client.send(next.clone()).unwrap();
    wait_until("the model at work", DEADLINE, || {
        (!scene.server.turn_requests().is_empty()).then_some(())
    });
    scene.sandbox.kill_daemon();
    assert_eq!(scene.sandbox.sessctl(&["daemon", "start"]).status, 0);
    let next = ended(&mut scene.sandbox.client(), &next.turn_id);
    assert_eq!(next.turn.state, TurnState::Succeeded, "{:?}", next.turn.fault);
    assert!(said(&next).contains("last='beta question'"), "{}", said(&next));
}

#[test]
fn a_prompt_that_waited_is_refused_when_its_session_cannot_go_on_any_more() {
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    gate.open(1);
    let dir = sandbox.dir("work");
    let words = ["send", "--new", "echo", "--cwd", dir.to_str().unwrap(), "one"];
    let id = answer(&sandbox, &words)["session"]["id"].as_str().unwrap().to_owned();
    let running = detach(&sandbox, &[&id, "two"]);
    let waiting = detach(&sandbox, &[&id, "three"]);
    wait_for_state(&sandbox, &running, "running");
    fs::remove_dir(&dir).unwrap();
    sandbox.json(&["turns", "cancel", &running]);
    let refused = ended(&mut sandbox.client(), &waiting).turn.fault.unwrap();
    assert_eq!(refused.code, FaultCode::DirectoryMissing, "{refused:?}");
}

#[test]
fn a_prompt_that_waited_begins_its_session_anew_if_it_may() {
    for may in [true, false] {
        let (sandbox, gate, id) = gated();
        let running = detach(&sandbox, &[&id, "two"]);
        wait_for_state(&sandbox, &running, "running");
        let more: &[&str] = if may { &["--fallback", "new"] } else { &[] };
        let waiting = detach(&sandbox, &[more, &[&id, "three"]].concat());
        fs::remove_file(sandbox.state_dir().join(format!("echo/{id}.jsonl"))).unwrap();
        // It is remembered by the next daemon too.
        sandbox.kill_daemon();
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        if may {
            gate.open(1);
        }
        let ended = ended(&mut sandbox.client(), &waiting);
        let turn = &ended.turn;
        if may {
            assert_eq!(turn.state, TurnState::Succeeded, "{:?}", turn.fault);
            assert_eq!(said(&ended), "turn 1, and you began with: three");
            assert!(turn.lost_context);
            assert_ne!(sandbox.json(&["show", &id])["provider_session_id"], *id);
        } else {
            let fault = turn.fault.clone().unwrap();
            assert_eq!(fault.code, FaultCode::NotResumable, "{fault:?}");
            assert!(fault.hint.unwrap().contains("--fallback new"));
        }
    }
}
