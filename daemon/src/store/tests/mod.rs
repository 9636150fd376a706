//! Tests of the store, mostly on registries in memory. They use its own functions, and SQL only for
//! states that no function can produce.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use sessd_proto::{Facts, Status, Timestamp};

use super::bindings::remember_home;
use super::file::prepare;
use super::import::FoundSession;
use super::migrations;
use super::sessions::{self, Stored};

mod bindings;
mod file;
mod found;
mod pages;
mod retention;
mod rows;
mod selectors;
mod trash;
mod turns;

/// Returns an empty registry in memory.
fn empty() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    prepare(&connection).unwrap();
    migrations::migrate(&mut connection, Path::new(":memory:"), migrations::ALL).unwrap();
    connection
}

/// Returns a registry with one home, and its row number.
fn with_home() -> (Connection, i64) {
    let connection = empty();
    let home = remember_home(&connection, "p", "/home", &BTreeMap::new()).unwrap();
    (connection, home)
}

/// Returns a session as a sweep could find it; `number` makes it unique.
fn found(home_id: i64, number: i64) -> FoundSession {
    let facts = Facts {
        provider_session_id: format!("theirs-{number:04}"),
        launch_dir: "/w".to_owned(),
        created_at: Timestamp(number),
        last_activity: Timestamp(number),
        ..Facts::default()
    };
    FoundSession {
        id: format!("id-{number:04}"),
        provider: "p".to_owned(),
        home_id,
        facts,
        location: format!("/home/{number}.jsonl"),
        project: "/w".to_owned(),
        status: Status::Active,
        at: Timestamp(1_000),
        ..FoundSession::default()
    }
}

/// Returns the same session with other facts.
fn found_with(home_id: i64, number: i64, change: impl FnOnce(&mut Facts)) -> FoundSession {
    let mut found = found(home_id, number);
    change(&mut found.facts);
    found
}

fn stored(connection: &Connection, id: &str) -> Stored {
    sessions::by_id(connection, id).unwrap().unwrap()
}

/// Returns the plan of a query, one step per line.
fn explain(connection: &Connection, sql: &str, parameters: &[rusqlite::types::Value]) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
        row.get::<_, String>("detail").map(|step| step + "\n")
    });
    rows.unwrap().collect::<rusqlite::Result<String>>().unwrap()
}
