//! Findings of a sweep: sessions that expire soon, scopes and directories that have changed.

use rusqlite::Connection;
use sessd_proto::{Reason, Timestamp};

use super::super::import::{self, FoundSession, Import};
use super::super::{bindings, sessions};
use super::{found, stored, with_home};

const NEAR: Timestamp = Timestamp(5_000);

fn import(connection: &Connection, found: &FoundSession) {
    let mut import = Import::begin(connection).unwrap().announcing(NEAR);
    import.upsert(found).unwrap();
    import.finish().unwrap();
}

fn announced(connection: &Connection) -> i64 {
    let count = "SELECT count(*) FROM events WHERE type = 'expiring'";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn session_that_expires_soon_is_announced_when_it_is_found() {
    let (connection, home) = with_home();
    let expiring = |at: i64| FoundSession { expires_at: Some(Timestamp(at)), ..found(home, 1) };
    import(&connection, &expiring(9_000));
    assert_eq!(announced(&connection), 0);
    import(&connection, &expiring(4_000));
    import(&connection, &expiring(4_500));
    assert_eq!(announced(&connection), 1, "once");
    let late = FoundSession { expires_at: Some(Timestamp(-1)), ..found(home, 2) };
    import(&connection, &late);
    assert_eq!(announced(&connection), 2, "also after the date");
}

#[test]
fn session_that_new_settings_let_expire_soon_is_announced() {
    let (connection, home) = with_home();
    let at = found(home, 1).at;
    import(&connection, &FoundSession { expires_at: Some(at.plus_ms(90_000)), ..found(home, 1) });
    let last_activity = stored(&connection, &found(home, 1).id).session.last_activity;
    let (new, lead_ms) = (at.plus_ms(2_000), 3_000);
    let age_ms = new.0 - last_activity.0;
    for (now, count) in [(at.plus_ms(-2_000), 0), (at, 1), (at, 1)] {
        let rule = (Some(age_ms), false);
        bindings::predict_expiry(&connection, home, rule, (now, lead_ms)).unwrap();
        assert_eq!(announced(&connection), count, "{now}");
        if count == 0 {
            let later = (Some(age_ms + 90_000), false);
            bindings::predict_expiry(&connection, home, later, (now, lead_ms)).unwrap();
        }
    }
}

#[test]
fn session_whose_scope_has_changed_stays_the_same() {
    let (connection, home) = with_home();
    let in_scope = |id: &str, scope: &str, earlier: Option<&str>| {
        let mut found = FoundSession { id: id.to_owned(), ..found(home, 1) };
        found.facts.scope = scope.to_owned();
        found.earlier_scope = earlier.map(str::to_owned);
        found
    };
    import::upsert(&connection, &in_scope("first", "hash", None)).unwrap();
    import::upsert(&connection, &in_scope("second", "slug", Some("hash"))).unwrap();
    assert_eq!(stored(&connection, "first").scope, "slug");
    assert!(sessions::by_id(&connection, "second").unwrap().is_none());
}

#[test]
fn directory_that_was_found_is_stored_unless_raced() {
    let (connection, home) = with_home();
    let mut found = found(home, 1);
    found.facts.launch_dir = String::new();
    found.reason = Some(Reason::DirectoryUnknown);
    import::upsert(&connection, &found).unwrap();
    let row = stored(&connection, &found.id);
    let set = |revision, dir| {
        sessions::set_launch_dir(&connection, row.seq, revision, dir, "/work").unwrap();
        let session = stored(&connection, &found.id).session;
        (session.launch_dir, session.project)
    };
    assert_eq!(set(row.session.revision - 1, "/other").0, "");
    assert_eq!(set(row.session.revision, "/work/app"), ("/work/app".into(), "/work".into()));
    assert_eq!(sessions::launch_dirs(&connection).unwrap(), ["/work/app"]);
}

#[test]
fn session_in_danger_keeps_its_prediction() {
    let (connection, home) = with_home();
    let danger = FoundSession {
        expires_at: Some(Timestamp(7)),
        reason: Some(Reason::DeletedAtNextStart),
        ..found(home, 1)
    };
    import::upsert(&connection, &danger).unwrap();
    import::upsert(&connection, &found(home, 2)).unwrap();
    bindings::predict_expiry(&connection, home, (Some(1_000), false), (NEAR, 0)).unwrap();
    let expires_at = |id| stored(&connection, id).session.expires_at;
    assert_eq!(expires_at(&danger.id), Some(Timestamp(7)));
    assert_eq!(expires_at("id-0002"), Some(Timestamp(1_002)));
    let listed = sessions::with_reason(&connection, Reason::DeletedAtNextStart, 9).unwrap();
    assert_eq!(listed.len(), 1);
}
