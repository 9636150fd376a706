//! The event log: what happened to sessions, in order.

use rusqlite::Connection;
use serde_json::Value;
use sessd_proto::Timestamp;

use super::Result;

/// Appends an event.
///
/// # Errors
/// Those of SQLite.
pub fn append(
    connection: &Connection,
    at: Timestamp,
    kind: &str,
    session_id: Option<&str>,
    data: &Value,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO events (at, type, session_id, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((at.0, kind, session_id, data.to_string()))?;
    Ok(())
}
