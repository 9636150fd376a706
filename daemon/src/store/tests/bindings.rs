//! Bindings: merging two rows of one session loses nothing, and every column has its place.

use std::collections::BTreeSet;

use super::super::columns::{self, Source};
use super::super::import;
use super::super::{annotations, bindings, trash};
use super::{FoundSession, Timestamp, empty, found, found_with, stored, with_home};

#[test]
fn every_column_of_sessions_has_one_source() {
    let connection = empty();
    let mut statement =
        connection.prepare("SELECT name FROM pragma_table_xinfo('sessions')").unwrap();
    let schema = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let schema: BTreeSet<_> = schema.map(Result::unwrap).collect();
    let listed: Vec<_> = columns::SESSIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a column is listed twice in store/columns.rs");
    assert_eq!(once, schema, "store/columns.rs must list the columns of `sessions`");
}

#[test]
fn merging_keeps_what_the_user_has_set() {
    let (connection, home) = with_home();
    let registered = FoundSession {
        id: "registered".to_owned(),
        location: String::new(),
        ..found_with(home, 1, |facts| facts.provider_session_id.clear())
    };
    import::upsert(&connection, &registered).unwrap();
    import::upsert(&connection, &found(home, 1)).unwrap();
    let at = Timestamp(2_000);
    let row = || stored(&connection, "id-0001");
    annotations::pin(&connection, &row(), true, at).unwrap();
    annotations::set_ttl(&connection, "id-0001", Some(7)).unwrap();
    annotations::title(&connection, &row(), Some("mine"), at).unwrap();
    trash::put(&connection, &row(), at, sessd_proto::TrashReason::Deleted).unwrap();
    let metadata = "UPDATE sessions SET metadata = '{\"a\":1}' WHERE id = 'id-0001'";
    connection.execute(metadata, []).unwrap();
    let user_set = || -> Vec<_> {
        let user = |(name, source): &(&'static str, Source)| match source {
            Source::User(_) => Some(*name),
            _ => None,
        };
        columns::SESSIONS.iter().filter_map(user).collect()
    };
    let values = |id: &str| -> Vec<rusqlite::types::Value> {
        let value = |column| {
            let sql = format!("SELECT {column} FROM sessions WHERE id = ?1");
            connection.query_row(&sql, [id], |row| row.get(0)).unwrap()
        };
        user_set().into_iter().map(value).collect()
    };
    let (before, set) = (values("registered"), values("id-0001"));
    assert!(before.iter().zip(&set).all(|(old, new)| old != new), "set every column here");
    let waiting = stored(&connection, "registered");
    bindings::bind_provider_id(&connection, &waiting, Some("id-0001"), "theirs-0001", at).unwrap();
    assert_eq!(values("registered"), set);
}

#[test]
fn merging_adds_up_the_totals() {
    let (connection, home) = with_home();
    let registered = FoundSession {
        id: "registered".to_owned(),
        location: String::new(),
        ..found_with(home, 1, |facts| facts.provider_session_id.clear())
    };
    import::upsert(&connection, &registered).unwrap();
    import::upsert(&connection, &found(home, 1)).unwrap();
    connection
        .execute_batch(
            "UPDATE sessions SET turns = 1, tokens_in = 10 WHERE id = 'registered';
             UPDATE sessions SET turns = 2, tokens_out = 5 WHERE id = 'id-0001';",
        )
        .unwrap();
    let (waiting, at) = (stored(&connection, "registered"), Timestamp(2_000));
    bindings::bind_provider_id(&connection, &waiting, Some("id-0001"), "theirs-0001", at).unwrap();
    let session = stored(&connection, "registered").session;
    assert_eq!((session.turns, session.tokens_in), (Some(3), Some(10)));
    assert_eq!((session.tokens_out, session.cost_usd), (Some(5), None));
}
