//! The event log of the registry: changes of sessions, in order. Knows no watcher.

use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use sessd_proto::{Event, EventType, Timestamp};

use super::Result;

/// Appends an event.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn append(
    connection: &Connection,
    at: Timestamp,
    kind: EventType,
    session_id: Option<&str>,
    data: &Value,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO events (at, type, session_id, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((at.0, kind.as_str(), session_id, data.to_string()))?;
    Ok(())
}

/// Appends a `discovered` event for every session whose row comes after `after`.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn append_discovered(connection: &Connection, after: i64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO events (at, type, session_id)
         SELECT status_since, ?2, id FROM sessions WHERE seq > ?1 ORDER BY seq",
    )?;
    statement.execute((after, EventType::Discovered.as_str()))?;
    Ok(())
}

/// Appends an `expiring` event for every session whose row comes after `after` and that is
/// predicted to expire before a time.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn append_expiring(connection: &Connection, after: i64, before: Timestamp) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT id, status_since, expires_at FROM sessions
         WHERE seq > ?1 AND expires_at < ?2 AND status <> 'expired' AND kind <> 'subagent'
         ORDER BY seq",
    )?;
    let mut rows = statement.query((after, before.0))?;
    while let Some(row) = rows.next()? {
        let (id, at): (String, i64) = (row.get(0)?, row.get(1)?);
        let data = serde_json::json!({ "expires_at": Timestamp(row.get(2)?) });
        append(connection, Timestamp(at), EventType::Expiring, Some(&id), &data)?;
    }
    Ok(())
}

/// Upper limit of events that one cleanup deletes.
const FORGET_MAX: i64 = 100_000;

/// Returns the last event that is due for deletion, and how many are due: all but the `keep`
/// newest, and all before a time.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn old(connection: &Connection, keep: u32, before: Option<Timestamp>) -> Result<(i64, i64)> {
    let first: Option<i64> =
        connection.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?;
    let Some(first) = first else { return Ok((0, 0)) };
    let beyond: Option<i64> = connection
        .query_row("SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?1", [keep], |row| {
            row.get(0)
        })
        .optional()?;
    let aged: Option<i64> = match before {
        None => None,
        Some(before) => connection.query_row(
            "SELECT ifnull((SELECT seq - 1 FROM events WHERE at >= ?1 ORDER BY seq LIMIT 1),
                 (SELECT max(seq) FROM events))",
            [before.0],
            |row| row.get(0),
        )?,
    };
    let last = beyond.max(aged).unwrap_or(0).min(first + FORGET_MAX - 1);
    let count = "SELECT count(*) FROM events WHERE seq <= ?1";
    Ok((last, connection.query_row(count, [last], |row| row.get(0))?))
}

/// Deletes events up to `last`, a batch at a time; returns how many.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn forget(connection: &Connection, last: i64) -> Result<usize> {
    let sql = "DELETE FROM events WHERE seq IN (
        SELECT seq FROM events WHERE seq <= ?1 ORDER BY seq LIMIT 2000)";
    Ok(connection.execute(sql, [last])?)
}

/// Parses a stored event. One of a type that only another version knows stays readable.
///
/// # Errors
/// Fails if the text is not an event.
pub(super) fn parse_event(text: &str) -> serde_json::Result<Event> {
    serde_json::from_str(text).or_else(|_| {
        let mut value: Value = serde_json::from_str(text)?;
        let kind = EventType::of_stored(value["type"].as_str().unwrap_or_default());
        value["type"] = kind.as_str().into();
        serde_json::from_value(value)
    })
}
