//! What the store promises, on registries in memory. Everything here goes through its own
//! functions; SQL is written only for what no function can make yet.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use sessd_proto::{Status, Timestamp};

use super::bindings;
use super::file::prepare;
use super::import::FoundSession;
use super::migrations;
use super::sessions::{self, Stored};

mod file;
mod pages;

mod retention;
mod rows;
mod selectors;
mod trash;
mod turns;

/// A registry in memory with nothing in it.
fn empty() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    prepare(&connection).unwrap();
    migrations::migrate(&mut connection, Path::new(":memory:"), migrations::ALL).unwrap();
    connection
}

/// A registry with one home.
fn with_home() -> (Connection, i64) {
    let connection = empty();
    let home = bindings::remember_home(&connection, "p", "/home", &BTreeMap::new()).unwrap();
    (connection, home)
}

/// What a sweep could find, distinct by its number.
fn found(home_id: i64, number: i64) -> FoundSession {
    FoundSession {
        id: format!("id-{number:04}"),
        provider: "p".to_owned(),
        home_id,
        provider_session_id: format!("theirs-{number:04}"),
        location: format!("/home/{number}.jsonl"),
        project: "/w".to_owned(),
        launch_dir: "/w".to_owned(),
        status: Status::Active,
        created_at: Timestamp(number),
        last_activity: Timestamp(number),
        at: Timestamp(1_000),
        ..FoundSession::default()
    }
}

fn stored(connection: &Connection, id: &str) -> Stored {
    sessions::by_id(connection, id).unwrap().unwrap()
}

/// The plan of a query, one step a line.
fn explain(connection: &Connection, sql: &str, parameters: &[rusqlite::types::Value]) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
        row.get::<_, String>("detail").map(|step| step + "\n")
    });
    rows.unwrap().collect::<rusqlite::Result<String>>().unwrap()
}
