//! User annotations on sessions: pin, tags, title, time to live (TTL). Knows no provider.

use rusqlite::Connection;
use serde_json::{Value, json};
use sessd_proto::EventType;
use sessd_proto::Timestamp;

use super::sessions::Stored;
use super::{Result, events};

/// Pins or unpins a session.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn pin(connection: &Connection, row: &Stored, pinned: bool, at: Timestamp) -> Result<()> {
    let changed = connection.execute(
        "UPDATE sessions SET pinned = ?2 WHERE seq = ?1 AND pinned <> ?2",
        (row.seq, pinned),
    )?;
    note(
        connection,
        row,
        changed,
        if pinned { EventType::Pinned } else { EventType::Unpinned },
        at,
        &json!({}),
    )
}

/// Adds a tag to a session.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn tag(connection: &Connection, row: &Stored, tag: &str, at: Timestamp) -> Result<()> {
    let changed = connection.execute(
        "INSERT INTO tags (session_id, tag, session_seq, last_activity, created_at, expires_key)
         SELECT id, ?2, seq, last_activity, created_at, expires_key FROM sessions WHERE seq = ?1
         ON CONFLICT DO NOTHING",
        (row.seq, tag),
    )?;
    note(connection, row, changed, EventType::Tagged, at, &json!({ "tag": tag }))
}

/// Removes a tag from a session.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn untag(connection: &Connection, row: &Stored, tag: &str, at: Timestamp) -> Result<()> {
    let changed = connection
        .execute("DELETE FROM tags WHERE session_id = ?1 AND tag = ?2", (&row.session.id, tag))?;
    note(connection, row, changed, EventType::Untagged, at, &json!({ "tag": tag }))
}

/// Sets the user's own title; `None` goes back to the provider's.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn title(
    connection: &Connection,
    row: &Stored,
    title: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    let changed = connection.execute(
        "UPDATE sessions SET own_title = ?2
         WHERE seq = ?1 AND own_title IS NOT ?2",
        (row.seq, title),
    )?;
    note(connection, row, changed, EventType::Titled, at, &json!({ "title": title }))
}

/// Sets the TTL of a session, in milliseconds after its last activity.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set_ttl(connection: &Connection, session_id: &str, ttl_ms: Option<i64>) -> Result<()> {
    connection.execute(
        "UPDATE sessions SET ttl_ms = ?2, revision = revision + 1
         WHERE id = ?1 AND ttl_ms IS NOT ?2",
        (session_id, ttl_ms),
    )?;
    Ok(())
}

fn note(
    connection: &Connection,
    row: &Stored,
    changed: usize,
    kind: EventType,
    at: Timestamp,
    data: &Value,
) -> Result<()> {
    if changed == 0 {
        return Ok(());
    }
    connection.execute("UPDATE sessions SET revision = revision + 1 WHERE seq = ?1", [row.seq])?;
    events::append(connection, at, kind, Some(&row.session.id), data)
}
