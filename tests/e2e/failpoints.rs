//! The daemon ends at each named place of each operation of several steps. What it left is one of
//! the two legal outcomes, whole, and doing it again ends well.

use std::fs;

use rusqlite::Connection;
use sessd_tests::large_home;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::shifted_clock::ShiftedClock;
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::cleanup::{DAY_MS, HOUR_MS, machine, pass};

/// The schema of the first release.
const FIRST: &str = include_str!("../../daemon/src/store/migrations/1_first.sql");

/// The present schema.
const SCHEMA: &str = include_str!("../../daemon/src/store/schema.sql");

/// Every place, from the code itself, so that none is forgotten here.
fn places(operation: &str) -> Vec<String> {
    let sources = [
        include_str!("../../daemon/src/registry/sessions/edit.rs"),
        include_str!("../../daemon/src/registry/sessions/cleanup.rs"),
        include_str!("../../daemon/src/registry/discovery/import.rs"),
        include_str!("../../daemon/src/store/indexes.rs"),
        include_str!("../../daemon/src/store/migrations.rs"),
        include_str!("../../daemon/src/store/trash.rs"),
    ];
    let words = sources.iter().flat_map(|source| source.split('"'));
    let named = words.filter(|word| word.starts_with(&format!("{operation}.")));
    let places: Vec<String> = named.map(str::to_owned).collect();
    assert!(!places.is_empty(), "no place in {operation}");
    places
}

/// Runs a command of which the daemon dies at this place.
#[track_caller]
fn die_at(sandbox: &mut Sandbox, place: &str, words: &[&str]) {
    let _ = sandbox.sessctl(&["daemon", "stop"]);
    sandbox.set_env("SESSD_FAILPOINT", place);
    let died = sandbox.sessctl(words);
    assert_ne!(died.status, 0, "{place} was not reached by {words:?}: {died:?}");
    sandbox.set_env("SESSD_FAILPOINT", "");
    assert_whole(sandbox, place);
}

fn assert_whole(sandbox: &Sandbox, place: &str) {
    let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    let check = |name: &str| {
        registry.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(check("integrity_check"), "ok", "{place}");
    let orphans = registry.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
    assert!(!orphans, "{place}");
}

fn trashed(sandbox: &Sandbox, id: &str) -> bool {
    sandbox.json(&["show", id])["trashed_at"].is_string()
}

#[test]
fn delete_and_undelete_happen_or_do_not() {
    let mut sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    for (verb, after) in [("delete", true), ("undelete", false)] {
        let mut all = places(verb);
        all.retain(|place| place != "undelete.lifted");
        all.extend(places("change"));
        for place in all {
            die_at(&mut sandbox, &place, &[verb, &id]);
            let stored = place == "change.stored";
            assert_eq!(trashed(&sandbox, &id), stored == after, "{place}");
            sandbox.json(&[verb, &id]);
            assert_eq!(trashed(&sandbox, &id), after, "{place}");
            if verb == "delete" && !stored {
                sandbox.json(&["undelete", &id]);
            }
        }
    }
}

/// A machine with a session that is due for the trash and one that is due to leave it.
fn due() -> Option<(Sandbox, ShiftedClock, [String; 2])> {
    let (sandbox, clock) = machine()?;
    let old = sandbox.new_session("old");
    let deleted = sandbox.new_session("deleted");
    sandbox.json(&["send", &old, "--ttl", "1d", "more"]);
    sandbox.json(&["delete", &deleted]);
    sandbox.json(&["cleanup"]);
    pass(&sandbox, &clock, 40 * DAY_MS);
    sandbox.json(&["cleanup"]);
    pass(&sandbox, &clock, 2 * HOUR_MS);
    Some((sandbox, clock, [old, deleted]))
}

#[test]
fn cleanup_goes_on_where_it_was_stopped() {
    let Some((mut sandbox, clock, [old, deleted])) = due() else { return };
    for place in places("cleanup") {
        // A look is one of the steps, so the one that counts may have been made already.
        clock.pass(2 * HOUR_MS);
        die_at(&mut sandbox, &place, &["cleanup"]);
        let purged = place == "cleanup.purged";
        assert_eq!(sandbox.sessctl(&["show", &deleted]).status == 3, purged, "{place}");
        if ["cleanup.planned", "cleanup.trashed"].contains(&&*place) {
            assert_eq!(trashed(&sandbox, &old), place == "cleanup.trashed");
        }
        sandbox.json(&["cleanup"]);
        assert!(trashed(&sandbox, &old), "{place}");
        assert_eq!(sandbox.sessctl(&["show", &deleted]).status, 3, "{place}");
        // Once more, from the start.
        sandbox.json(&["undelete", &old, &deleted]);
        let due = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
        let again = "UPDATE sessions SET trashed_at = iif(id = ?1, 1, NULL),
            ttl_ms = iif(id = ?1, NULL, 1)";
        assert_eq!(due.execute(again, [&deleted]).unwrap(), 2);
    }
}

#[test]
fn undelete_of_a_purged_session_goes_on_where_it_was_stopped() {
    let Some((mut sandbox, _, [_, deleted])) = due() else { return };
    sandbox.json(&["cleanup"]);
    assert_eq!(sandbox.sessctl(&["show", &deleted]).status, 3);
    sandbox.set_env("SESSD_FAILPOINT", "undelete.lifted");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let daemon = sandbox.daemon_pid();
    // The client repeats the call; the next daemon dies there too, unless its first sweep has
    // found the session before it was asked.
    let called = sandbox.sessctl(&["undelete", &deleted]);
    assert!([0, 8].contains(&called.status), "{called:?}");
    assert_ne!(sandbox.daemon_pid(), daemon, "the place was not reached");
    sandbox.set_env("SESSD_FAILPOINT", "");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    sandbox.json(&["undelete", &deleted]);
    assert!(sandbox.ids().contains(&deleted));
}

#[test]
fn migrate_leaves_the_old_registry_or_the_new_one() {
    let mut sandbox = Sandbox::new(BINARIES);
    for place in places("migrate") {
        let state = sandbox.state_dir();
        let _ = fs::remove_dir_all(&state);
        fs::create_dir_all(&state).unwrap();
        first_release(&sandbox);
        die_at(&mut sandbox, &place, &["list"]);
        let session = sandbox.json(&["list"])["sessions"][0].clone();
        assert_eq!(session["title"], "from the first release", "{place}");
        assert_eq!(session["tags"], serde_json::json!(["kept"]), "{place}");
        let copy = Connection::open(state.join("sessd.db.v1")).unwrap();
        let version: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1, "{place}: the way back");
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    }
}

#[test]
fn the_first_import_goes_on_where_it_was_stopped() {
    let mut sandbox = Sandbox::new(BINARIES);
    let (home, sessions) = (sandbox.dir("many"), 20);
    large_home::make(&home, sessions);
    sandbox.set_env("CLAUDE_CONFIG_DIR", home.join(".claude").to_string_lossy());
    let expected = sandbox.ids();
    assert_eq!(expected.len(), sessions);
    for place in places("import").into_iter().chain(places("index")) {
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
        fs::remove_dir_all(sandbox.state_dir()).unwrap();
        sandbox.set_env("SESSD_FAILPOINT", &place);
        // The list may be answered before the indexes are made.
        let _ = sandbox.sessctl(&["list"]);
        wait_until(&format!("death at {place}"), DEADLINE, || {
            let lock = fs::File::open(sandbox.state_dir().join("sessd.lock")).unwrap();
            // The client has repeated its call with a second daemon, which may live.
            let log = fs::read_to_string(sandbox.state_dir().join("sessd.log")).unwrap();
            let again = log.matches("listening on").count() > 1;
            (again || lock.try_lock_shared().is_ok()).then_some(())
        });
        let _ = sandbox.sessctl(&["daemon", "stop"]);
        sandbox.set_env("SESSD_FAILPOINT", "");
        assert_whole(&sandbox, &place);
        assert_eq!(sandbox.ids(), expected, "{place}");
        let by_creation = sandbox.json(&["list", "--sort", "created"]);
        assert_eq!(by_creation["sessions"].as_array().unwrap().len(), sessions, "{place}");
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
        assert_whole(&sandbox, &place);
        let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
        let index = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
        let made: i64 = registry.query_row(index, [], |row| row.get(0)).unwrap();
        assert_eq!(made as usize, SCHEMA.matches(" INDEX ").count(), "{place}");
    }
}

/// A registry as the first release left it.
fn first_release(sandbox: &Sandbox) {
    let path = sandbox.state_dir().join("sessd.db");
    let registry = Connection::open(&path).unwrap();
    registry.execute_batch(FIRST).unwrap();
    registry
        .execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO projects VALUES (1, '/w');
             INSERT INTO homes VALUES (1, 'echo', '/nowhere', '{}');
             INSERT INTO sessions (seq, id, project_id, provider, agent, kind, launch_dir, title,
                 status, created_at, last_activity)
             VALUES (1, 'an-id', 1, 'echo', 'echo', 'headless', '/w', 'from the first release',
                 'active', 1, 2);
             INSERT INTO bindings VALUES (1, 1, '', 'theirs', '/nowhere/1.jsonl', 'an-id', 1);
             INSERT INTO tags SELECT id, 'kept', seq, last_activity, created_at, expires_key
             FROM sessions;
             INSERT INTO tombstones VALUES (1, '', 'buried', 0);",
        )
        .unwrap();
    drop(registry);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(sandbox.state_dir(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
}

/// The daemon dies between the lease and the answer; the client asks again, and is not told that
/// it is in its own way, nor asked to end.
#[test]
fn resume_that_was_not_answered_is_repeated() {
    let mut sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    for words in [&["resume", &id][..], &["resume", "--steal", &id]] {
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
        let once = sandbox.home().join("once");
        let script = format!(
            "#!/bin/sh\nSESSD_FAILPOINT=; test -e '{0}' || SESSD_FAILPOINT=resume.leased\n\
             touch '{0}'; export SESSD_FAILPOINT; exec '{1}' \"$@\"\n",
            once.display(),
            sandbox.sessd()
        );
        let program = sandbox.script("dies-once", script);
        sandbox.set_env("SESSD_BIN", program.to_str().unwrap());
        let mut command = sandbox.command(BINARIES.sessctl);
        command.args(words);
        let mut resumed = Terminal::spawn(command, 24, 80);
        resumed.wait_for_text("turn 1", DEADLINE);
        resumed.key(Key::CtrlD);
        assert!(resumed.wait_exit(DEADLINE).success());
        fs::remove_file(once).unwrap();
    }
}
