//! Cleanups with clocks that are set: what goes, when, and what never does.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};
use sessd_proto::Timestamp;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::shifted_clock::ShiftedClock;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::scene::NEVER;

pub(crate) const HOUR_MS: i64 = 60 * 60 * 1_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A machine whose clocks a test sets and where no job comes in between.
pub(crate) fn machine() -> Option<(Sandbox, ShiftedClock)> {
    let mut sandbox = Sandbox::new(BINARIES);
    let clock = ShiftedClock::of(&mut sandbox)?;
    for job in ["DISCOVERY", "HEARTBEAT", "CLEANUP"] {
        sandbox.set_env(&format!("SESSD_{job}_SCHEDULE"), NEVER);
    }
    Some((sandbox, clock))
}

/// The machine sleeps, or is used by others, for so long.
pub(crate) fn pass(sandbox: &Sandbox, clock: &ShiftedClock, ms: i64) {
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    clock.pass(ms);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
}

/// Runs a cleanup after a dry run, which must predict exactly what it does.
#[track_caller]
fn cleanup(sandbox: &Sandbox) -> Vec<Value> {
    let mut promised = sandbox.json(&["cleanup", "--dry-run"]);
    let done = sandbox.json(&["cleanup"]);
    assert_eq!(promised["dry_run"], true);
    promised["dry_run"] = json!(false);
    assert_eq!(promised, done);
    done["actions"].as_array().unwrap().clone()
}

fn step(action: &str, id: &str, title: &str, reason: &str) -> Value {
    json!({
        "action": action, "session_id": id, "provider": "echo", "title": title,
        "reason": reason, "count": null,
    })
}

fn transcript(sandbox: &Sandbox, id: &str) -> PathBuf {
    sandbox.state_dir().join(format!("echo/{id}.jsonl"))
}

/// The types of the events of a session, in order.
fn events(sandbox: &Sandbox, id: &str) -> Vec<String> {
    let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    let mut query =
        registry.prepare("SELECT type FROM events WHERE session_id = ?1 ORDER BY seq").unwrap();
    query.query_map([id], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn cleanup_needs_two_runs_and_restores_what_is_used_again() {
    let Some((sandbox, clock)) = machine() else { return };
    let new = |prompt: &str| sandbox.json(&["send", "--new", "echo", "--ttl", "2d", prompt]);
    let [ttl, pinned, tagged] = ["ttl", "pinned", "tagged"]
        .map(|prompt| new(prompt)["session"]["id"].as_str().unwrap().to_owned());
    let [gone, deleted, kept] = ["gone", "deleted", "kept"].map(|it| sandbox.new_session(it));
    sandbox.json(&["pin", &pinned]);
    sandbox.json(&["tag", &tagged, "keep"]);
    sandbox.json(&["delete", &deleted]);
    fs::remove_file(transcript(&sandbox, &gone)).unwrap();
    assert_eq!(sandbox.json(&["check", &gone])["sessions"][0]["status"], "expired");
    assert!(cleanup(&sandbox).is_empty());

    // The first look after a long time believes the look before it only.
    pass(&sandbox, &clock, 31 * DAY_MS);
    assert!(cleanup(&sandbox).is_empty());
    let expired = sandbox.json(&["check", &ttl]);
    assert_eq!(expired["sessions"][0]["reason"], "ttl");
    assert_eq!(sandbox.json(&["check", &pinned])["sessions"][0]["status"], "active");
    pass(&sandbox, &clock, 2 * HOUR_MS);
    let expected = [
        step("trash", &ttl, "ttl", "ttl"),
        step("trash", &gone, "gone", "gone"),
        step("purge", &deleted, "deleted", "trash_days"),
        json!({
            "action": "forget_turns", "session_id": null, "provider": null, "title": null,
            "reason": "retention", "count": 6,
        }),
    ];
    assert_eq!(cleanup(&sandbox), expected);
    assert!(transcript(&sandbox, &deleted).exists() && transcript(&sandbox, &ttl).exists());

    // Purged: not found again by a sweep, but by a caller that knows its id.
    sandbox.json(&["jobs", "run", "discovery"]);
    let mut left = sandbox.ids();
    left.sort();
    let mut expected = [&pinned, &tagged, &kept].map(String::clone);
    expected.sort();
    assert_eq!(left, expected);
    sandbox.json(&["undelete", &deleted]);
    assert!(sandbox.ids().contains(&deleted));
    let steps = ["discovered", "status_changed", "trashed", "purged", "discovered"];
    assert_eq!(events(&sandbox, &deleted), steps);

    // Past its time to live, in the trash, and continued behind our back.
    let undeleted = sandbox.json(&["undelete", &ttl]);
    let session = &undeleted["sessions"][0];
    assert_eq!((&session["status"], &session["ttl_ms"]), (&json!("active"), &Value::Null));
    let deleted = sandbox.json(&["delete", &ttl]);
    let trashed_at = deleted["sessions"][0]["trashed_at"].as_str().unwrap();
    let soon = Timestamp::parse(trashed_at).unwrap().plus_ms(1_000);
    let later = json!({ "at": soon, "cwd": "/", "role": "user", "text": "x" });
    let path = transcript(&sandbox, &ttl);
    fs::write(&path, fs::read_to_string(&path).unwrap() + &format!("{later}\n")).unwrap();
    sandbox.json(&["jobs", "run", "discovery"]);
    assert!(sandbox.ids().contains(&ttl));
}

#[test]
fn a_clock_that_is_set_deletes_nothing() {
    for shift_ms in [30 * DAY_MS, -30 * DAY_MS] {
        let Some((sandbox, clock)) = machine() else { return };
        let [one, two] = ["one", "two"].map(|it| sandbox.new_session(it));
        sandbox.json(&["send", &one, "--ttl", "1d", "more"]);
        sandbox.json(&["delete", &two]);
        pass(&sandbox, &clock, 2 * HOUR_MS);
        sandbox.json(&["cleanup"]);
        clock.set_wall(2 * HOUR_MS + shift_ms);
        for _ in 0..12 {
            // Two looks agree by now, but the clock was set a short while ago.
            let report = sandbox.json(&["cleanup"]);
            assert_eq!(report["actions"], json!([]), "{shift_ms}");
            assert!(report["held"].as_str().unwrap().starts_with("the clock was set"));
            assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
            clock.pass(HOUR_MS);
        }
        // The clock is corrected: that sets it once more, and still nothing is gone.
        clock.set_wall(14 * HOUR_MS);
        assert_eq!(sandbox.json(&["cleanup"])["actions"], json!([]), "{shift_ms}");
        sandbox.json(&["undelete", &two]);
        let mut ids = sandbox.ids();
        ids.sort();
        let mut expected = [one, two];
        expected.sort();
        assert_eq!(ids, expected);
    }
}

#[test]
fn jobs_that_were_due_five_times_without_a_daemon_run_once() {
    let Some((mut sandbox, clock)) = machine() else { return };
    for job in ["DISCOVERY", "HEARTBEAT", "CLEANUP"] {
        sandbox.set_env(&format!("SESSD_{job}_SCHEDULE"), "0 0 * * * *");
    }
    // Half past: no run is due during the test itself.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(since.as_millis()).unwrap();
    clock.pass(HOUR_MS - now % HOUR_MS + HOUR_MS / 2);
    sandbox.new_session("one");
    let runs = |job: &str| {
        let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
        let count = "SELECT count(*) FROM job_runs WHERE job = ?1 AND finished IS NOT NULL";
        registry.query_row(count, [job], |row| row.get::<_, i64>(0)).unwrap()
    };
    // The heartbeat is the last that a start makes up for.
    let all_have_run = |times: i64| {
        let heartbeat = || (runs("heartbeat") >= times).then_some(());
        wait_until("what was missed has been done", DEADLINE, heartbeat);
        assert_eq!(["discovery", "cleanup", "heartbeat"].map(runs), [times; 3]);
    };
    sandbox.json(&["list"]);
    all_have_run(1);
    pass(&sandbox, &clock, 5 * HOUR_MS);
    all_have_run(2);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    sandbox.wait_until_started();
    // A sweep is made at every start, as anything may have happened before.
    assert_eq!(["discovery", "cleanup", "heartbeat"].map(runs), [3, 2, 2]);
}
