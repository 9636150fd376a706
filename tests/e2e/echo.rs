//! Turns with the built-in agent: sending, order, repetition, and what a crash leaves.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;

use rustix::process::{Pid, test_kill_process_group};
use sessd_proto::client::Client;
use sessd_proto::turn::{SendRequest, SendResponse, TurnOutput, TurnOutputRequest, TurnState};
use sessd_proto::{FaultCode, LiveState};
use sessd_tests::daemon::is_running;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::{DEADLINE, wait_until};
use uuid::Uuid;

use crate::BINARIES;

const FIRST: &str = "turn 1, and you began with: one\n";
const SECOND: &str = "turn 2, and you began with: one\n";

#[test]
fn a_session_is_continued_in_every_way_it_can_be_named() {
    let sandbox = Sandbox::new(BINARIES);
    let first = sandbox.sessctl(&["send", "--new", "echo", "one"]);
    assert_eq!((first.status, &*first.stdout), (0, FIRST), "{}", first.stderr);
    let id = first.stderr.trim_end().strip_prefix("session: ").expect("its id").to_owned();

    let by_id = sandbox.sessctl(&["send", &id, "two"]);
    assert_eq!(by_id.stdout, SECOND);
    let by_prefix = sandbox.sessctl(&["send", &id[..8], "three"]);
    assert_eq!(by_prefix.stdout, "turn 3, and you began with: one\n");
    let last = sandbox.sessctl(&["send", "--last", "four"]);
    assert_eq!(last.stdout, "turn 4, and you began with: one\n");
    for (count, words) in [(5, vec!["send", &id]), (6, vec!["send", &id, "-"])] {
        let piped = piped(&sandbox, &words, "from a pipe\n");
        assert_eq!(piped.stdout, format!("turn {count}, and you began with: one\n"));
    }
    let shown = sandbox.json(&["show", &id]);
    assert_eq!(shown["turns"], 6);
    assert!(shown["tokens_in"].is_null(), "echo reports no tokens: {shown}");
    assert_eq!(sandbox.ids(), [id]);
}

#[test]
fn last_is_the_newest_session_of_this_directory() {
    let sandbox = Sandbox::new(BINARIES);
    let [here, elsewhere] = ["here", "elsewhere"].map(|name| sandbox.dir(name));
    let send = |cwd: &Path, words: &[&str]| {
        let mut command = sandbox.command(BINARIES.sessctl);
        command.arg("send").args(words).current_dir(cwd);
        sandbox.run(&mut command, DEADLINE)
    };
    let [first, _] = ["one", "uno"].map(|prompt| send(&here, &["--new", "echo", prompt]));
    send(&elsewhere, &["--new", "echo", "eins"]);
    let last = |cwd| send(cwd, &["--last", "more"]).stdout;
    assert_eq!(last(&here), "turn 2, and you began with: uno\n");
    assert_eq!(last(&elsewhere), "turn 2, and you began with: eins\n");
    let id = first.stderr.trim_end().strip_prefix("session: ").expect("its id");
    assert_eq!(send(&elsewhere, &[id, "two"]).stdout, SECOND);
    assert_eq!(last(&here), "turn 3, and you began with: one\n");
    let nowhere = sandbox.dir("nowhere");
    crate::bad_input::assert_fault(
        &send(&nowhere, &["--last", "more"]),
        3,
        "none in this directory",
    );
}

/// Runs the client with this on its standard input.
fn piped(sandbox: &Sandbox, arguments: &[&str], input: &str) -> Output {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        status: output.status.code().unwrap(),
    }
}

#[test]
fn output_is_remembered_by_the_next_daemon() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_eq!(sandbox.sessctl(&["send", &id, "two"]).stdout, SECOND);
    assert_eq!(sandbox.ids(), [id]);
}

#[test]
fn send_answers_json_of_the_promised_shape() {
    let sandbox = Sandbox::new(BINARIES);
    let answer = sandbox.json(&["send", "--new", "echo", "one"]);
    assert_eq!(answer["text"], FIRST.trim_end());
    assert_eq!(answer["lost_context"], false);
    assert_eq!(answer["turn"]["state"], "succeeded");
    assert!(answer["turn"]["fault"].is_null());
    let session = &answer["session"];
    assert_eq!(answer["turn"]["session_id"], session["id"]);
    assert_eq!((&session["status"], &session["agent"]), (&"active".into(), &"echo".into()));
    assert_eq!(session["launch_dir"], sandbox.home().to_str().unwrap());
    assert_eq!(session["kind"], "headless");
    for column in ["home", "provider_session_id", "project", "tags", "keys", "revision", "live"] {
        assert!(!session[column].is_null(), "no {column}");
    }
    assert!(session.get("launch").is_none());
}

#[test]
fn a_repeated_request_runs_once() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let request = SendRequest { selector: Some(id.clone()), ..request("two") };
    let turns: Vec<_> = (0..3).map(|_| sandbox.client().send(request.clone()).unwrap()).collect();
    assert!(turns.iter().all(|sent| sent.turn.id == request.turn_id));
    let ended = ended(&mut sandbox.client(), &request.turn_id);
    assert_eq!(said(&ended), SECOND.trim_end());
    let again = sandbox.client().send(request.clone()).unwrap();
    assert_eq!(again.turn, ended.turn, "after its end too");
    let third = "turn 3, and you began with: one\n";
    assert_eq!(sandbox.sessctl(&["send", &id, "three"]).stdout, third);
}

#[test]
fn a_request_repeated_for_another_session_runs_nothing_there() {
    let sandbox = Sandbox::new(BINARIES);
    let [first, second] = ["one", "uno"].map(|prompt| sandbox.new_session(prompt));
    let request = SendRequest { selector: Some(first.clone()), ..request("two") };
    let mut client = sandbox.client();
    let turn = client.send(request.clone()).unwrap().turn;
    let again = client.send(SendRequest { selector: Some(second.clone()), ..request }).unwrap();
    assert_eq!((again.turn.id, again.session.id), (turn.id.clone(), first));
    ended(&mut client, &turn.id);
    let next = "turn 2, and you began with: uno\n";
    assert_eq!(sandbox.sessctl(&["send", &second, "due"]).stdout, next);
}

pub(crate) fn request(prompt: &str) -> SendRequest {
    SendRequest {
        turn_id: Uuid::new_v4().to_string(),
        prompt: prompt.to_owned(),
        ..SendRequest::default()
    }
}

/// Sends a prompt. Where many come at once some get no answer in time, and ask the same again.
pub(crate) fn sent(sandbox: &Sandbox, mut client: Client, request: &SendRequest) -> SendResponse {
    wait_until("an answer to a prompt", DEADLINE, || match client.send(request.clone()) {
        Err(fault) if fault.code == FaultCode::Deadline => {
            client = sandbox.client();
            None
        }
        sent => Some(sent.unwrap_or_else(|fault| panic!("{fault:?}"))),
    })
}

/// Waits for the end of a turn and answers all of its output.
pub(crate) fn ended(client: &mut Client, turn_id: &str) -> TurnOutput {
    let request = TurnOutputRequest { turn_id: turn_id.to_owned(), after: 0, wait_ms: 1_000 };
    wait_until("the end of a turn", DEADLINE, || {
        let output = client.turn_output(request.clone()).unwrap();
        output.session.is_some().then_some(output)
    })
}

pub(crate) fn said(output: &TurnOutput) -> String {
    let texts = output.events.iter().filter(|event| event.kind.as_str() == "text");
    texts.filter_map(|event| event.text.clone()).collect()
}

#[test]
fn turns_of_one_session_run_one_after_the_other() {
    const TURNS: usize = 50;
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    // All connections are there before the first prompt: they arrive together.
    let together = Barrier::new(TURNS);
    let send = || -> SendResponse {
        let selector = Some(id.clone());
        let client = sandbox.client();
        together.wait();
        sent(&sandbox, client, &SendRequest { selector, ..request("more") })
    };
    let mut sent = std::thread::scope(|scope| {
        let started: Vec<_> = (0..TURNS).map(|_| scope.spawn(send)).collect();
        started.into_iter().map(|thread| thread.join().unwrap().turn).collect::<Vec<_>>()
    });
    let mut client = sandbox.client();
    let ended: Vec<_> = sent.drain(..).map(|turn| ended(&mut client, &turn.id)).collect();
    let mut order: Vec<_> = ended.iter().map(|output| (output.turn.started_at, output)).collect();
    order.sort_by_key(|(at, _)| *at);
    for (count, (_, output)) in (2..).zip(&order) {
        assert_eq!(output.turn.state, TurnState::Succeeded);
        assert_eq!(said(output), format!("turn {count}, and you began with: one"));
    }
    for pair in order.windows(2) {
        assert!(pair[0].1.turn.finished_at <= pair[1].1.turn.started_at, "two at once");
    }
}

/// Its text, its result and all of it again after a reconnection are more than one request may
/// be, but not more than one answer.
#[test]
fn an_answer_may_be_larger_than_a_request() {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = sandbox.client();
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let prompt = "x".repeat(800_000);
    let asked = SendRequest { new_agent: Some("echo".to_owned()), cwd, prompt, ..request("") };
    client.send(asked.clone()).unwrap();
    let output = ended(&mut client, &asked.turn_id);
    assert_eq!(output.turn.state, TurnState::Succeeded, "{:?}", output.turn.fault);
    let whole = TurnOutputRequest { turn_id: asked.turn_id, ..TurnOutputRequest::default() };
    let events = client.turn_output(whole).unwrap().events;
    let text: usize = events.iter().filter_map(|event| event.text.as_ref()).map(String::len).sum();
    assert!(text > 1_600_000, "{text}");
}

#[test]
fn a_stopped_daemon_interrupts_a_turn_and_tells_its_follower() {
    let sandbox = Sandbox::new(BINARIES);
    let _gate = sandbox.gate();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = sandbox.client();
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let asked = SendRequest { new_agent: Some("echo".to_owned()), cwd, ..request("wait") };
    client.send(asked.clone()).unwrap();
    let follower = thread::spawn(move || {
        let wait_ms = 60_000;
        client.turn_output(TurnOutputRequest { turn_id: asked.turn_id, after: 1_000, wait_ms })
    });
    wait_until("the agent at the gate", DEADLINE, || {
        let busy = sandbox.json(&["list", "--busy"]);
        (busy["sessions"][0]["live"]["state"] == "busy").then_some(())
    });
    let stopped = sandbox.sessctl(&["daemon", "stop"]);
    assert_eq!(stopped.status, 0, "{}", stopped.stderr);
    let told = follower.join().unwrap().unwrap();
    assert_eq!(told.turn.state, TurnState::Interrupted);
}

#[test]
fn a_crash_interrupts_the_turn_and_leaves_no_orphan() {
    const FIRST_TWO: &str = "turn 1, and you began with: two";
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = sandbox.client();
    let new_agent = Some("echo".to_owned());
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let running = SendRequest { new_agent, cwd, ..request("one") };
    let id = client.send(running.clone()).unwrap().session.id;
    let queued = SendRequest { selector: Some(id.clone()), ..request("two") };
    client.send(queued.clone()).unwrap();
    let pid = wait_until("the agent at the gate", DEADLINE, || {
        let busy = sandbox.json(&["list", "--busy"]);
        let live = &busy["sessions"][0]["live"];
        (live["state"] == "busy").then(|| live["pid"].as_i64())?
    });
    let group = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    assert!(test_kill_process_group(group).is_ok(), "the agent leads a group of its own");

    sandbox.kill_daemon();
    // The kernel tells it.
    wait_until("the end of the agent", DEADLINE, || {
        (!is_running(group.as_raw_pid())).then_some(())
    });
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let turn = ended(&mut sandbox.client(), &running.turn_id).turn;
    assert_eq!(turn.state, TurnState::Interrupted);
    assert!(turn.fault.unwrap().hint.is_some());
    // It needs nothing that only the daemon's memory had.
    gate.open(1);
    let next = ended(&mut sandbox.client(), &queued.turn_id);
    assert_eq!((next.turn.state, said(&next)), (TurnState::Succeeded, FIRST_TWO.to_owned()));
    let shown = sandbox.json(&["show", &id]);
    assert_ne!(shown["live"]["state"], "busy");
}

#[test]
fn a_stopped_daemon_takes_its_turns_with_it() {
    let sandbox = Sandbox::new(BINARIES);
    let _gate = sandbox.gate();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let running = SendRequest { new_agent: Some("echo".to_owned()), cwd, ..request("one") };
    sandbox.client().send(running.clone()).unwrap();
    let pid = wait_until("the agent at the gate", DEADLINE, || {
        let busy = sandbox.json(&["list", "--busy"]);
        i32::try_from(busy["sessions"][0]["live"]["pid"].as_i64()?).ok()
    });
    let stopped = sandbox.sessctl(&["daemon", "stop"]);
    assert_eq!(stopped.status, 0, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("interrupted 1 running turn"), "{}", stopped.stderr);
    wait_until("the end of the agent", DEADLINE, || (!is_running(pid)).then_some(()));
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let turn = ended(&mut sandbox.client(), &running.turn_id).turn;
    assert_eq!(turn.state, TurnState::Interrupted);
}

#[test]
fn a_running_session_is_listed_as_busy() {
    let sandbox = Sandbox::new(BINARIES);
    let idle = Sandbox::new(BINARIES);
    assert_eq!(idle.json(&["list", "--busy"])["sessions"].as_array().unwrap().len(), 0);
    let gate = sandbox.gate();
    gate.open(1);
    let other = sandbox.new_session("idle");
    let mut client = sandbox.client();
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let running = SendRequest { new_agent: Some("echo".to_owned()), cwd, ..request("one") };
    let id = client.send(running.clone()).unwrap().session.id;
    let busy = wait_until("a busy session", DEADLINE, || {
        let listed = sandbox.json(&["list", "--busy"]);
        listed["sessions"].as_array().filter(|listed| !listed.is_empty()).cloned()
    });
    assert_eq!(busy.len(), 1);
    assert_eq!(busy[0]["id"], *id);
    assert_eq!(busy[0]["live"]["state"], LiveState::Busy.as_str());
    assert_ne!(id, other);
    gate.open(1);
    ended(&mut client, &running.turn_id);
    assert_eq!(sandbox.json(&["list", "--busy"])["sessions"].as_array().unwrap().len(), 0);
}

#[test]
fn invalid_prompts_are_refused() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let cases: &[(&[&str], i32)] = &[
        (&["send"], 2),
        (&["send", &id, ""], 2),
        (&["send", &id, " \n"], 2),
        (&["send", &id], 2),
        (&["send", &id, "one", "two"], 2),
        (&["send", "--last", "one", "two"], 2),
        (&["send", "--new", "nobody", "hello"], 3),
        (&["send", "--new", "echo", "--cwd", "/nowhere", "hello"], 2),
        (&["send", "--new", "echo", "--last", "hello"], 2),
    ];
    for (words, status) in cases {
        let output = sandbox.sessctl(words);
        crate::bad_input::assert_fault(&output, *status, &format!("{words:?}"));
    }
    let twice = SendRequest { new_agent: Some("echo".to_owned()), ..request("x") };
    let copied = SendRequest { selector: Some("@me".to_owned()), fork: true, ..twice.clone() };
    let twice = SendRequest { selector: Some(id), ..twice };
    assert_eq!(sandbox.client().send(copied).unwrap_err().code, FaultCode::Usage);
    assert_eq!(sandbox.client().send(twice).unwrap_err().code, FaultCode::Usage);
    let no_uuid = SendRequest { turn_id: "1".to_owned(), ..request("x") };
    assert_eq!(sandbox.client().send(no_uuid).unwrap_err().code, FaultCode::Usage);
}

/// However fast it dies, the fault tells how it ended, not that it was missing.
#[test]
fn a_provider_that_dies_at_once_is_quoted() {
    let sandbox = Sandbox::new(BINARIES);
    let program = sandbox.script("dying", "#!/bin/sh\necho 'no licence' >&2\nexit 3\n");
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    for _ in 0..30 {
        let failed = sandbox.sessctl(&["send", "--new", "echo", "one"]);
        assert_eq!(failed.status, 6, "{failed:?}");
        assert!(failed.stderr.contains("exit status: 3: no licence"), "{failed:?}");
    }
}
