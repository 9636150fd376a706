//! The trash: what is due, what protects a session, tombstones, and what brings a session back.

use rusqlite::Connection;
use sessd_proto::{Reason, Session, Status, Timestamp, TrashReason};

use super::super::import::{self, FoundSession};
use super::super::sessions::{self, Checked};
use super::super::{annotations, files, trash};
use super::{found, found_with, stored, with_home};

const NOW: Timestamp = Timestamp(1_000);

/// Returns sessions 1 to `count`, each with a transcript that the last sweep has seen.
fn registry(count: i64) -> (Connection, i64) {
    let (connection, home) = with_home();
    for number in 1..=count {
        sweep(&connection, &found(home, number));
    }
    (connection, home)
}

fn sweep(connection: &Connection, found: &FoundSession) {
    import::upsert(connection, found).unwrap();
    files::remember(connection, found.home_id, &found.location, (1, 1, 1)).unwrap();
}

fn put(connection: &Connection, number: i64, at: i64) {
    let row = stored(connection, &format!("id-{number:04}"));
    assert!(trash::put(connection, &row, Timestamp(at), TrashReason::Deleted).unwrap());
}

fn ids(connection: &Connection, seqs: Vec<i64>) -> Vec<String> {
    let rows = sessions::by_seqs(connection, seqs).unwrap();
    rows.into_iter().map(|row| row.session.id).collect()
}

#[test]
fn longest_due_comes_first_and_pins_and_tags_protect() {
    let (connection, _) = registry(5);
    for (number, ttl) in [(1, 300), (2, 100), (3, 100), (4, 100)] {
        annotations::set_ttl(&connection, &format!("id-{number:04}"), Some(ttl)).unwrap();
    }
    annotations::pin(&connection, &stored(&connection, "id-0003"), true, NOW).unwrap();
    annotations::tag(&connection, &stored(&connection, "id-0004"), "keep", NOW).unwrap();
    let due = |at| ids(&connection, trash::due_by_ttl(&connection, Timestamp(at)).unwrap());
    assert_eq!(due(101), [""; 0]);
    assert_eq!(due(102), ["id-0002"]);
    assert_eq!(due(1_000), ["id-0002", "id-0001"]);

    for number in 1..=5 {
        put(&connection, number, 2_000 - number);
    }
    let due = |at| ids(&connection, trash::due_purge(&connection, Timestamp(at)).unwrap());
    assert_eq!(due(1_994), [""; 0]);
    assert_eq!(due(5_000), ["id-0005", "id-0002", "id-0001"]);
    annotations::untag(&connection, &stored(&connection, "id-0004"), "keep", NOW).unwrap();
    annotations::pin(&connection, &stored(&connection, "id-0003"), false, NOW).unwrap();
    assert_eq!(due(5_000).len(), 5);
}

#[test]
fn grace_starts_at_the_check_that_found_it_gone() {
    let (connection, _) = registry(2);
    let check = |number: i64, status, at| {
        let row = stored(&connection, &format!("id-{number:04}"));
        let (seq, revision) = (row.seq, row.session.revision);
        let checked = Checked { seq, revision, status, reason: None, at: Timestamp(at) };
        sessions::set_checked(&connection, &checked).unwrap();
    };
    check(1, Status::Expired, 2_000);
    // A later check confirms it: the grace period still counts from the first.
    check(1, Status::Expired, 3_000);
    check(2, Status::Invalid, 2_000);
    let due = |at| ids(&connection, trash::due_gone(&connection, Timestamp(at)).unwrap());
    assert_eq!(due(1_999), [""; 0]);
    assert_eq!(due(2_000), ["id-0001"]);
    check(1, Status::Active, 4_000);
    check(1, Status::Expired, 5_000);
    assert_eq!(due(4_999), [""; 0]);
    // Taking it out of the trash restarts the grace period.
    put(&connection, 1, 6_000);
    let row = stored(&connection, "id-0001");
    assert!(trash::take_out(&connection, &row, Timestamp(7_000)).unwrap());
    check(1, Status::Expired, 8_000);
    assert_eq!(due(6_999), [""; 0]);
    assert_eq!(due(7_000), ["id-0001"]);
}

#[test]
fn a_session_that_changed_since_planning_is_kept() {
    let (connection, _) = registry(1);
    let planned = stored(&connection, "id-0001");
    annotations::tag(&connection, &planned, "keep", NOW).unwrap();
    assert!(!trash::put(&connection, &planned, NOW, TrashReason::Ttl).unwrap());
    assert!(!trash::purge(&connection, &planned, NOW).unwrap());
    assert_eq!(stored(&connection, "id-0001").session.trashed_at, None);
    assert_eq!(
        trash::lift_tombstones(&connection, "id-0001").unwrap(),
        [0; 0],
        "no tombstone is left"
    );
}

#[test]
fn a_purged_session_is_not_rediscovered() {
    let (connection, home) = registry(2);
    put(&connection, 1, 2_000);
    assert!(trash::purge(&connection, &stored(&connection, "id-0001"), NOW).unwrap());
    sweep(&connection, &found(home, 1));
    assert!(sessions::by_id(&connection, "id-0001").unwrap().is_none());
    assert_eq!(trash::count_stale_tombstones(&connection).unwrap(), 0);

    // The tombstone follows the transcript to its new location.
    let moved = FoundSession { location: "/home/archived/1.jsonl".to_owned(), ..found(home, 1) };
    sweep(&connection, &moved);
    files::forget(&connection, home, "/home/1.jsonl").unwrap();
    assert_eq!(trash::count_stale_tombstones(&connection).unwrap(), 0);
    assert!(sessions::by_id(&connection, "id-0001").unwrap().is_none());

    files::forget(&connection, home, &moved.location).unwrap();
    assert_eq!(trash::count_stale_tombstones(&connection).unwrap(), 1);
    trash::forget_stale_tombstones(&connection).unwrap();
    assert_eq!(trash::count_stale_tombstones(&connection).unwrap(), 0);
}

#[test]
fn a_purged_session_comes_back_under_its_old_id() {
    let (connection, home) = registry(1);
    put(&connection, 1, 2_000);
    trash::purge(&connection, &stored(&connection, "id-0001"), NOW).unwrap();
    assert_eq!(trash::lift_tombstones(&connection, "theirs-0001").unwrap(), [home]);
    // The stamp is gone, so the sweep reads the file again and would give it another id.
    assert!(files::of_home(&connection, home).unwrap().is_empty());
    assert_eq!(
        trash::count_stale_tombstones(&connection).unwrap(),
        0,
        "forgotten before it is found"
    );
    sweep(&connection, &FoundSession { id: "another".to_owned(), ..found(home, 1) });
    assert_eq!(stored(&connection, "id-0001").session.trashed_at, None);
    assert_eq!(trash::lift_tombstones(&connection, "theirs-0001").unwrap(), [0; 0]);
}

#[test]
fn activity_brings_a_session_back() {
    let (connection, home) = registry(2);
    put(&connection, 1, 2_000);
    put(&connection, 2, 2_000);
    let active = |number, at| found_with(home, number, |facts| facts.last_activity = Timestamp(at));
    sweep(&connection, &active(1, 2_000));
    assert!(stored(&connection, "id-0001").session.trashed_at.is_some(), "seen, but not new");
    sweep(&connection, &active(1, 2_001));
    assert_eq!(stored(&connection, "id-0001").session.trashed_at, None);

    trash::purge(&connection, &stored(&connection, "id-0002"), Timestamp(3_000)).unwrap();
    sweep(&connection, &active(2, 3_000));
    assert!(sessions::by_id(&connection, "id-0002").unwrap().is_none());
    sweep(&connection, &active(2, 3_001));
    assert_eq!(stored(&connection, "id-0002").session.trashed_at, None);
}

#[test]
fn ttl_wins_over_the_status_found_by_a_sweep() {
    let (connection, home) = registry(1);
    annotations::set_ttl(&connection, "id-0001", Some(100)).unwrap();
    let later = |last_activity, at| FoundSession {
        at: Timestamp(at),
        ..found_with(home, 1, |facts| facts.last_activity = Timestamp(last_activity))
    };
    let seen = |connection: &Connection| {
        let Session { status, reason, .. } = stored(connection, "id-0001").session;
        (status, reason)
    };
    sweep(&connection, &later(10, 110));
    assert_eq!(seen(&connection), (Status::Expired, Some(Reason::Ttl)));
    sweep(&connection, &later(50, 110));
    assert_eq!(seen(&connection), (Status::Active, None));
    annotations::pin(&connection, &stored(&connection, "id-0001"), true, NOW).unwrap();
    sweep(&connection, &later(50, 900));
    assert_eq!(seen(&connection), (Status::Active, None));
}

#[test]
fn a_user_title_survives_sweeps_until_it_is_removed() {
    let (connection, home) = registry(1);
    let title = |connection: &Connection| stored(connection, "id-0001").session.title;
    let theirs = |title: &str| found_with(home, 1, |facts| facts.title = Some(title.to_owned()));
    sweep(&connection, &theirs("first"));
    let row = stored(&connection, "id-0001");
    annotations::title(&connection, &row, Some("ours"), NOW).unwrap();
    sweep(&connection, &theirs("second"));
    assert_eq!(title(&connection).as_deref(), Some("ours"));
    annotations::title(&connection, &row, None, NOW).unwrap();
    assert_eq!(title(&connection).as_deref(), Some("second"));
}
