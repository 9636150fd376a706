//! Keys: callers' own names for sessions. Knows no caller.

use rusqlite::{Connection, OptionalExtension};
use serde_json::json;
use sessd_proto::EventType;
use sessd_proto::Timestamp;

use super::{Result, events};

/// Returns the id of the session that a key points to.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn session_of(connection: &Connection, key: &str) -> Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT session_id FROM keys WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// Returns the keys after `after`, in order, with the row numbers of their sessions.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn page(connection: &Connection, after: &str, limit: u32) -> Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT k.key, s.seq FROM keys k JOIN sessions s ON s.id = k.session_id
         WHERE k.key > ?1 ORDER BY k.key LIMIT ?2",
    )?;
    let rows = statement.query_map((after, limit), |row| row.try_into())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Points a key to a session, replacing what it pointed to before.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn bind(connection: &Connection, key: &str, session_id: &str, at: Timestamp) -> Result<()> {
    let before = session_of(connection, key)?;
    if before.as_deref() == Some(session_id) {
        return Ok(());
    }
    connection.execute(
        "INSERT INTO keys (key, session_id) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET session_id = excluded.session_id",
        (key, session_id),
    )?;
    if let Some(before) = before {
        note(connection, EventType::KeyDropped, key, &before, at)?;
    }
    note(connection, EventType::KeyBound, key, session_id, at)
}

/// Removes a key; returns the id of the session it pointed to, if any.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn drop(connection: &Connection, key: &str, at: Timestamp) -> Result<Option<String>> {
    let before = session_of(connection, key)?;
    if let Some(before) = &before {
        connection.execute("DELETE FROM keys WHERE key = ?1", [key])?;
        note(connection, EventType::KeyDropped, key, before, at)?;
    }
    Ok(before)
}

fn note(
    connection: &Connection,
    kind: EventType,
    key: &str,
    session_id: &str,
    at: Timestamp,
) -> Result<()> {
    // A cleanup that was planned earlier must not purge a session that has got a key since.
    connection
        .execute("UPDATE sessions SET revision = revision + 1 WHERE id = ?1", [session_id])?;
    events::append(connection, at, kind, Some(session_id), &json!({ "key": key }))
}
