//! The daemon is killed at random moments; whatever a client was told is still true afterwards.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sessd_proto::change::{SelectorsRequest, TagRequest};
use sessd_proto::client::Client;
use sessd_proto::job::RunJobRequest;
use sessd_proto::launch::{CreateRequest, ResumeRequest};
use sessd_proto::session::ShowRequest;
use sessd_proto::turn::{SendRequest, TurnOutputRequest, TurnState};
use sessd_proto::{Fault, FaultCode, LiveState};
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, pause, wait_until};
use uuid::Uuid;

use crate::BINARIES;

/// The answers that clients got, and their number.
#[derive(Default)]
struct Told {
    turns: Mutex<Vec<(String, String)>>,
    leases: Mutex<Vec<String>>,
    tags: Mutex<Vec<(String, String)>>,
    trash: Mutex<Vec<(String, bool)>>,
    count: AtomicUsize,
}

#[test]
fn acknowledged_changes_survive_a_kill_at_any_moment() {
    let sandbox = Sandbox::new(BINARIES);
    let mut known = HashSet::new();
    for round in 0..rounds(5, 500) {
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        let told = Told::default();
        thread::scope(|scope| {
            scope.spawn(|| send(&sandbox, &told));
            scope.spawn(|| resume(&sandbox, &told, &known));
            scope.spawn(|| tag(&sandbox, &told, &known, round));
            scope.spawn(|| delete_and_undelete(&sandbox, &told));
            scope.spawn(|| run_jobs(&sandbox, &told));
            let moment = Moment::of(round);
            wait_until("work under way", DEADLINE, || {
                (told.count.load(Ordering::Relaxed) >= moment.calls).then_some(())
            });
            pause(moment.then);
            sandbox.kill_daemon();
        });
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        verify(&sandbox, &told, round);
        known.extend(told.turns.into_inner().unwrap().into_iter().map(|(id, _)| id));
    }
    let listed: HashSet<String> = sandbox.ids().into_iter().collect();
    assert!(known.is_subset(&listed), "lost: {:?}", known.difference(&listed));
}

/// The moment of a kill: after some calls, and a little later still.
struct Moment {
    calls: usize,
    then: Duration,
}

impl Moment {
    /// Another one in each round, the same in each run.
    fn of(round: u64) -> Self {
        let mixed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let calls = usize::try_from(mixed >> 61).unwrap_or_default();
        Self { calls, then: Duration::from_micros(mixed >> 20 & 0x7fff) }
    }
}

/// An answer, or nothing once the daemon is gone: no call may fail in another way.
#[track_caller]
fn unless_killed<T>(answer: Result<T, Fault>) -> Option<T> {
    answer.inspect_err(|fault| assert_eq!(fault.code, FaultCode::DaemonUnreachable, "{fault}")).ok()
}

/// Sends prompts to new sessions until the daemon is gone.
fn send(sandbox: &Sandbox, told: &Told) {
    let Ok(mut client) = Client::connect(&sandbox.socket()) else { return };
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    loop {
        let request = SendRequest {
            turn_id: Uuid::new_v4().to_string(),
            new_agent: Some("echo".to_owned()),
            cwd: cwd.clone(),
            prompt: "hello".to_owned(),
            ..SendRequest::default()
        };
        let Some(sent) = unless_killed(client.send(request)) else { return };
        let turn_id = sent.turn.id;
        let mut output = TurnOutputRequest { turn_id, after: 0, wait_ms: 5_000 };
        loop {
            let part = client.turn_output(output.clone());
            let Some(part) = unless_killed(part) else { return };
            output.after = part.events.last().map_or(output.after, |event| event.seq);
            if let Some(session) = part.session {
                assert_eq!(part.turn.state, TurnState::Succeeded, "{:?}", part.turn.fault);
                told.turns.lock().unwrap().push((session.id, part.turn.id));
                told.count.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Takes leases for this process until the daemon is gone.
fn resume(sandbox: &Sandbox, told: &Told, known: &HashSet<String>) {
    let Ok(mut client) = Client::connect(&sandbox.socket()) else { return };
    for id in known {
        let selector = Some(id.clone());
        let resumed = client.resume(ResumeRequest { selector, ..ResumeRequest::default() });
        let Some(resumed) = unless_killed(resumed) else { return };
        told.leases.lock().unwrap().push(resumed.session.id);
        told.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tags sessions until the daemon is gone.
fn tag(sandbox: &Sandbox, told: &Told, known: &HashSet<String>, round: u64) {
    let Ok(mut client) = Client::connect(&sandbox.socket()) else { return };
    for id in known.iter().cycle().take(10 * known.len()) {
        let tag = format!("{round}-{}", told.count.load(Ordering::Relaxed));
        let request = TagRequest { selector: id.clone(), tags: vec![tag.clone()] };
        let Some(_) = unless_killed(client.tag(request)) else { return };
        told.tags.lock().unwrap().push((id.clone(), tag));
        told.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Puts new sessions into the trash, and every other one out again, until the daemon is gone.
fn delete_and_undelete(sandbox: &Sandbox, told: &Told) {
    let Ok(mut client) = Client::connect(&sandbox.socket()) else { return };
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let new = CreateRequest { agent: "echo".to_owned(), cwd, ..CreateRequest::default() };
    for trashed in [true, false].into_iter().cycle() {
        let new = CreateRequest { id: Uuid::new_v4().to_string(), ..new.clone() };
        let Some(created) = unless_killed(client.create(new)) else { return };
        let request = SelectorsRequest { selectors: vec![created.session.id.clone()] };
        let Some(_) = unless_killed(client.delete(request.clone())) else { return };
        if !trashed && unless_killed(client.undelete(request)).is_none() {
            return;
        }
        told.trash.lock().unwrap().push((created.session.id, trashed));
        told.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs jobs one after the other until the daemon is gone.
fn run_jobs(sandbox: &Sandbox, told: &Told) {
    let Ok(mut client) = Client::connect(&sandbox.socket()) else { return };
    for job in ["discovery", "heartbeat", "cleanup"].into_iter().cycle() {
        let run = client.run_job(RunJobRequest { job: job.to_owned() });
        let Some(_) = unless_killed(run) else { return };
        told.count.fetch_add(1, Ordering::Relaxed);
    }
}

fn verify(sandbox: &Sandbox, told: &Told, round: u64) {
    let database = sandbox.state_dir().join("sessd.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(database, flags).unwrap();
    let check = |name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(check("integrity_check"), "ok", "round {round}");
    let mut client = sandbox.client();
    for (session_id, turn_id) in told.turns.lock().unwrap().iter() {
        let request = TurnOutputRequest { turn_id: turn_id.clone(), ..Default::default() };
        let output = client.turn_output(request).unwrap();
        assert_eq!(output.turn.state, TurnState::Succeeded, "round {round}");
        assert_eq!(output.turn.session_id, *session_id);
        let text = "turn 1, and you began with: hello";
        assert!(output.events.iter().any(|event| event.text.as_deref() == Some(text)));
        let session = client.show(ShowRequest { selector: session_id.clone() }).unwrap();
        assert_eq!(session.id, *session_id);
    }
    for (selector, tag) in told.tags.lock().unwrap().iter() {
        let session = client.show(ShowRequest { selector: selector.clone() }).unwrap();
        assert!(session.tags.contains(tag), "round {round}: the tag {tag} is lost");
    }
    for (selector, trashed) in told.trash.lock().unwrap().iter() {
        let session = client.show(ShowRequest { selector: selector.clone() }).unwrap();
        assert_eq!(session.trashed_at.is_some(), *trashed, "round {round}");
    }
    for selector in told.leases.lock().unwrap().iter() {
        let live = client.show(ShowRequest { selector: selector.clone() }).unwrap().live;
        assert_eq!((live.state, live.pid), (LiveState::Open, Some(std::process::id())));
    }
}
