//! Promise: a prompt that has waited meets its session as that is when its turn comes.

use std::fs;

use sessd_proto::FaultCode;
use sessd_proto::launch::ResumeRequest;
use sessd_proto::turn::{SendRequest, TurnState};
use sessd_tests::daemon::is_running;
use sessd_tests::real_cli::Claude;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};
use uuid::Uuid;

use crate::BINARIES;
use crate::echo::{ended, request, said};
use crate::mid_answer::processes_of;
use crate::scene::{Scene, answer, run_job};
use crate::turn_verbs::{agent, detach, gated, held, wait_for_state};

/// Its first turn had started, though no sweep had seen its transcript yet; the tool that it ran is
/// in a process group of its own.
#[test]
fn a_session_cut_off_in_its_first_answer_is_not_restarted() {
    let Some(scene) = Scene::of(&Claude) else { return };
    // Anything that only the memory of the daemon had would be lost with it.
    let config = format!(
        "[agents.mine]\nprovider = \"claude\"\npermission = \"all\"\n[agents.mine.env]\n\
         ANTHROPIC_BASE_URL = {:?}\nANTHROPIC_API_KEY = \"a-key\"\nIS_SANDBOX = \"1\"\n",
        scene.server.url()
    );
    scene.sandbox.write(".config/sessd/config.toml", config);
    assert_eq!(scene.sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = scene.sandbox.client();
    let first = SendRequest {
        new_agent: Some("mine".to_owned()),
        cwd: scene.project.to_str().unwrap().to_owned(),
        // It refuses a command that only sleeps.
        ..request(r#"alpha [[call Bash {"command": "until false; do sleep 600; done"}]]"#)
    };
    let sent = client.send(first).unwrap();
    let (id, first) = (sent.session.id, sent.turn.id);
    let next = SendRequest { selector: Some(id), ..request("beta question") };
    client.send(next.clone()).unwrap();
    let command = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let started = wait_until("the tool at work", DEADLINE, || {
        let started = processes_of(&first);
        started.iter().any(|pid| command(pid) == b"sleep\x00600\0").then_some(started)
    });
    scene.sandbox.kill_daemon();
    assert_eq!(scene.sandbox.sessctl(&["daemon", "start"]).status, 0);
    let next = ended(&mut scene.sandbox.client(), &next.turn_id);
    assert_eq!(next.turn.state, TurnState::Succeeded, "{:?}", next.turn.fault);
    assert!(said(&next).contains("last='beta question'"), "{}", said(&next));
    let left =
        || started.iter().copied().chain(processes_of(&first)).filter(|pid| is_running(*pid));
    assert_eq!(left().collect::<Vec<_>>(), [0; 0], "it runs without a daemon");
}

#[test]
fn a_queued_prompt_is_refused_once_its_session_is_gone() {
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
fn a_queued_prompt_rebinds_a_lost_session_with_fallback() {
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

/// The agent of the one that broke down is ended, and those behind it go on.
#[test]
fn a_panic_in_a_turn_ends_that_turn_only() {
    let (mut sandbox, gate, id) = gated();
    let trap = sandbox.write("trap", "");
    sandbox.set_env("SESSD_PANIC", trap.to_str().unwrap());
    fs::rename(&trap, trap.with_extension("off")).unwrap();
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let running = detach(&sandbox, &[&id, "two"]);
    wait_for_state(&sandbox, &running, "running");
    agent(&sandbox);
    fs::rename(trap.with_extension("off"), &trap).unwrap();
    let [broken, next] = ["three", "four"].map(|prompt| detach(&sandbox, &[&id, prompt]));
    gate.open(1);
    let fault = ended(&mut sandbox.client(), &broken).turn.fault.unwrap();
    assert_eq!(fault.code, FaultCode::Internal, "{fault:?}");
    gate.open(1);
    let next = ended(&mut sandbox.client(), &next);
    assert_eq!(said(&next), "turn 3, and you began with: one", "{:?}", next.turn.fault);
}

#[test]
fn steal_ends_no_process_for_a_session_in_the_trash() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let mut holder = held(&sandbox, &id);
    let registry = rusqlite::Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    registry.execute("UPDATE sessions SET trashed_at = 1", []).unwrap();
    let refused = sandbox.sessctl(&["send", "--steal", &id, "two"]);
    assert_eq!(refused.status, 5, "{refused:?}");
    assert!(is_running(i32::try_from(holder.id()).unwrap()), "it was asked to end");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

#[test]
fn a_fork_that_never_started_starts_as_a_fork_or_not() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let original = scene.session(&asked).id;
    let copy = Uuid::new_v4().to_string();
    let mut client = scene.sandbox.client();
    let mut resume = |selector: &str, fork_as: Option<String>| {
        let selector = Some(selector.to_owned());
        client.resume(ResumeRequest { selector, fork_as, ..ResumeRequest::default() })
    };
    let first = resume(&original, Some(copy.clone())).unwrap().plan;
    let again = resume(&copy, None).unwrap().plan;
    assert_eq!(again, first, "it starts empty");
    let path = scene.cli.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
    fs::remove_file(path).unwrap();
    run_job(&scene.sandbox, "discovery");
    assert_eq!(resume(&copy, None).unwrap_err().code, FaultCode::NotResumable);
    let registry = rusqlite::Connection::open(scene.sandbox.state_dir().join("sessd.db")).unwrap();
    registry.execute("DELETE FROM sessions WHERE id = ?1", [&original]).unwrap();
    assert_eq!(resume(&copy, None).unwrap_err().code, FaultCode::NotResumable);
}
