//! Promise: every prompt runs once, at most so many at a time, however many come at once and
//! wherever the daemon dies.

use std::fs;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use sessd_proto::client::Client;
use sessd_proto::turn::{SendRequest, TurnState, TurnsRequest};
use sessd_tests::daemon::is_running;
use sessd_tests::real_cli::Claude;
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, pause, wait_until};
use uuid::Uuid;

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::echo::{ended, request, said};
use crate::scene::{Scene, fault};

fn to(id: &str, prompt: &str) -> SendRequest {
    SendRequest { selector: Some(id.to_owned()), ..request(prompt) }
}

fn new(sandbox: &Sandbox, prompt: &str) -> SendRequest {
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    SendRequest { new_agent: Some("echo".to_owned()), cwd, ..request(prompt) }
}

/// Both have been looked up, and found unknown, before either is written down.
#[test]
fn a_request_sent_twice_at_the_same_moment_runs_once() {
    let mut sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    sandbox.set_env("SESSD_MEET", "send.unknown");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let again = to(&id, "two");
    let first = new(&sandbox, "uno");
    for request in [again, first] {
        let both: Vec<_> = thread::scope(|scope| {
            let send = || sandbox.client().send(request.clone()).unwrap();
            let sent = [scope.spawn(send), scope.spawn(send)];
            sent.map(|it| it.join().unwrap()).into()
        });
        assert_eq!(both[0].session.id, both[1].session.id);
        let turn = ended(&mut sandbox.client(), &request.turn_id).turn;
        assert_eq!(turn.state, TurnState::Succeeded, "{:?}", turn.fault);
    }
    let said = |prompt: &str| {
        let texts = transcripts(&sandbox);
        texts.matches(&format!("\"text\":\"{prompt}\"")).count()
    };
    assert_eq!([said("one"), said("two"), said("uno")], [1, 1, 1]);
    assert_eq!(sandbox.ids().len(), 2);
}

#[test]
fn a_script_that_repeats_its_prompt_runs_it_once() {
    let sandbox = Sandbox::new(BINARIES);
    let turn = Uuid::new_v4().to_string();
    let send = ["send", "--turn", &turn, "--new", "echo", "one"];
    let [first, again] = [(); 2].map(|()| sandbox.sessctl(&send));
    assert_eq!((first.status, &*first.stdout), (0, "turn 1, and you began with: one\n"));
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    assert_eq!(sandbox.json(&["turns"])["turns"].as_array().unwrap().len(), 1);
    assert_eq!(sandbox.ids().len(), 1);
    let other = sandbox.sessctl(&["send", "--turn", &turn, "--new", "echo", "two"]);
    assert_fault(&other, 2, "another prompt");
    let no_uuid = sandbox.sessctl(&["send", "--turn", "mine", "--new", "echo", "one"]);
    assert_fault(&no_uuid, 2, "no UUID");
}

/// The daemon waits for another one to come until it is too late.
#[test]
fn a_prompt_that_is_not_answered_in_time_names_its_turn() {
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("SESSD_MEET", "send.unknown");
    let late = fault(&sandbox, &["send", "--new", "echo", "one"], 7);
    let hint = late.hint.unwrap();
    let (_, id) = hint.split_once("the turn may still be running: `sessctl turns show ").unwrap();
    assert!(Uuid::parse_str(id.trim_end_matches('`')).is_ok(), "{hint}");
}

/// All that the built-in agent was ever told and said.
fn transcripts(sandbox: &Sandbox) -> String {
    let files = files_below(&sandbox.state_dir().join("echo"));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn turns_beyond_the_limit_wait() {
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = sandbox.client();
    let turns: Vec<_> =
        (0..8).map(|_| client.send(new(&sandbox, "one")).unwrap().turn.id).collect();
    for left in (1..=8).rev() {
        let running = left.min(3);
        wait_until(&format!("{running} of {left} to run"), DEADLINE, || {
            let status = sandbox.json(&["status"]);
            let is_so = status["turns_running"] == running && status["turns_pending"] == left;
            is_so.then_some(())
        });
        gate.open(1);
    }
    for turn in turns {
        assert_eq!(ended(&mut client, &turn).turn.state, TurnState::Succeeded);
    }
}

#[test]
fn a_thousand_prompts_wait_in_order_and_outlive_their_daemon() {
    const TURNS: usize = 1_000;
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    gate.open(1);
    let id = sandbox.new_session("one");
    let mut client = sandbox.client();
    let sent: Vec<_> = (0..TURNS).map(|_| client.send(to(&id, "more")).unwrap().turn.id).collect();
    wait_until("the first to run", DEADLINE, || {
        (sandbox.json(&["status"])["turns_running"] == 1).then_some(())
    });
    sandbox.kill_daemon();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut client = sandbox.client();
    assert_eq!(ended(&mut client, &sent[0]).turn.state, TurnState::Interrupted);
    gate.open(2);
    for (turn, count) in sent[1..3].iter().zip(2..) {
        let ended = ended(&mut client, turn);
        assert_eq!(said(&ended), format!("turn {count}, and you began with: one"));
    }
    let status = sandbox.json(&["status"]);
    assert_eq!(status["turns_pending"], TURNS - 3);
    let last = client.turns(TurnsRequest { limit: 1, ..TurnsRequest::default() }).unwrap();
    assert_eq!(last.turns[0].id, sent[TURNS - 1]);
}

/// Ended in order, or killed: the next daemon has all of them, and knows which it can run.
#[test]
fn thousands_of_prompts_outlive_their_daemon_however_it_ends() {
    const TURNS: i64 = 2_000;
    for is_killed in [false, true] {
        let sandbox = Sandbox::new(BINARIES);
        let gate = sandbox.gate();
        gate.open(1);
        let id = sandbox.new_session("one");
        let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
        // Every other one needs variables that only this daemon could know.
        let queue = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
            INSERT INTO turns (id, session_id, state, prompt, agent, queued_at, needs_environment)
            SELECT printf('%08d-turn', i), ?1, 'queued', 'more', 'echo', i, i % 2 FROM n";
        registry.execute(queue, (&id, TURNS - 1)).unwrap();
        match is_killed {
            true => sandbox.kill_daemon(),
            false => assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0),
        }
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        let count = "SELECT count(*) FROM turns WHERE queued_at < ?1 AND state = ?2";
        let count = |state: &str| -> i64 {
            registry.query_row(count, (TURNS, state), |row| row.get(0)).unwrap()
        };
        wait_until("the first to run", DEADLINE, || (count("running") == 1).then_some(()));
        assert_eq!([count("queued"), count("interrupted")], [TURNS / 2 - 1, TURNS / 2]);
        let mut client = sandbox.client();
        let lost = ended(&mut client, "00000001-turn").turn.fault.unwrap();
        assert!(lost.message.contains("environment"), "{lost:?}");
        gate.open(2);
        for (turn, count) in ["00000000-turn", "00000002-turn"].iter().zip(2..) {
            let said = said(&ended(&mut client, turn));
            assert_eq!(said, format!("turn {count}, and you began with: one"));
        }
    }
}

#[test]
fn callers_of_a_real_cli_take_turns() {
    const CALLERS: usize = 5;
    let Some(scene) = Scene::of(&Claude) else { return };
    let words = |id: &str| ["send".to_owned(), id.to_owned(), "more".to_owned()];
    let mut first = scene.sandbox.command(BINARIES.sessctl);
    first.args(["send", "--new", "claude", "alpha"]).current_dir(&scene.project);
    let first = scene.sandbox.run(&mut first, DEADLINE);
    let id = first.stderr.trim_end().strip_prefix("session: ").expect("its id");
    let mut counts: Vec<String> = thread::scope(|scope| {
        let send = || {
            let words = words(id);
            let sent = scene.sandbox.sessctl(&words.each_ref().map(String::as_str));
            sent.stdout.split(' ').nth(1).unwrap_or_else(|| panic!("{sent:?}")).to_owned()
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(send)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    counts.sort();
    let all: Vec<_> = (2..2 + CALLERS).map(|count| format!("turns={count}")).collect();
    assert_eq!(counts, all);
    assert_eq!(scene.server.turn_requests().len(), 1 + CALLERS);
}

/// The daemon dies when it has decided to start the agent, and when it has started it.
#[test]
fn a_turn_is_never_started_twice() {
    let mut sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    for place in ["turn.started", "turn.spawned"] {
        let _ = sandbox.sessctl(&["daemon", "stop"]);
        sandbox.set_env("SESSD_FAILPOINT", place);
        // The client has the next daemon tell what came of it.
        let died = sandbox.sessctl(&["send", &id, place]);
        assert_eq!(died.status, 6, "{died:?}");
        assert!(died.stderr.contains("interrupted"), "{died:?}");
        wait_until("the end of all agents", DEADLINE, || agents(&sandbox).is_empty().then_some(()));
    }
    let _ = sandbox.sessctl(&["daemon", "stop"]);
    sandbox.set_env("SESSD_FAILPOINT", "");
    assert_eq!(sandbox.sessctl(&["send", &id, "two"]).stdout, "turn 2, and you began with: one\n");
}

/// The agents that run in a sandbox.
fn agents(sandbox: &Sandbox) -> Vec<i32> {
    let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_agent = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let home = format!("HOME={}\0", sandbox.home().display());
        is_running(*pid) && has(&environ, b"SESSD_TURN=") && has(&environ, home.as_bytes())
    };
    pids.filter(is_agent).collect()
}

#[test]
fn no_turn_is_lost_or_run_twice_by_a_kill_at_any_moment() {
    const TURNS: usize = 200;
    const KILLS: usize = 8;
    let sandbox = Sandbox::new(BINARIES);
    let sessions: Vec<_> = (0..5).map(|_| sandbox.new_session("one")).collect();
    for round in 0..rounds(1, 2) {
        let prompts: Vec<_> =
            (0..TURNS).map(|number| format!("prompt {round}-{number} ")).collect();
        let mut sent: Vec<Vec<(String, String)>> = Vec::new();
        thread::scope(|scope| {
            let share = prompts.chunks(TURNS / sessions.len());
            let senders: Vec<_> = sessions.iter().zip(share).collect();
            let senders = senders.into_iter().map(|(id, prompts)| {
                let sandbox = &sandbox;
                scope
                    .spawn(move || prompts.iter().map(|it| sent_at_last(sandbox, id, it)).collect())
            });
            let senders: Vec<thread::ScopedJoinHandle<'_, Vec<_>>> = senders.collect();
            let (mut moment, mut kills) = (round, 0);
            while kills < KILLS || senders.iter().any(|sender| !sender.is_finished()) {
                kills += 1;
                moment = (moment + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                pause(Duration::from_millis(20 + (moment >> 32) % 300));
                sandbox.kill_daemon();
                assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
            }
            sent = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        });
        let said = transcripts(&sandbox);
        let mut client = sandbox.client();
        for (turn, prompt) in sent.iter().flatten() {
            let turn = ended(&mut client, turn).turn;
            let said = transcripts_of(&said, &sandbox, prompt);
            match turn.state {
                TurnState::Succeeded => assert_eq!(said, 1, "{prompt}"),
                TurnState::Interrupted => assert!(said <= 1, "{prompt} ran twice"),
                state => panic!("{prompt}: {state}: {:?}", turn.fault),
            }
        }
        wait_until("the end of all agents", DEADLINE, || agents(&sandbox).is_empty().then_some(()));
    }
}

/// Counts how often the agent was told this, in the texts that were read or by now.
fn transcripts_of(earlier: &str, sandbox: &Sandbox, prompt: &str) -> usize {
    let marker = format!("\"role\":\"user\",\"text\":\"{}\"", prompt.trim_end());
    match earlier.matches(&marker).count() {
        0 => transcripts(sandbox).matches(&marker).count(),
        count => count,
    }
}

/// Sends one prompt, again and again under the same id until some daemon accepts it.
fn sent_at_last(sandbox: &Sandbox, id: &str, prompt: &str) -> (String, String) {
    let request = to(id, prompt);
    let turn = wait_until("a daemon that accepts a prompt", DEADLINE, || {
        let mut client = Client::connect(&sandbox.socket()).ok()?;
        client.send(request.clone()).ok()
    });
    (turn.turn.id, prompt.to_owned())
}
