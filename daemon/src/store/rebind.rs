//! Rebinding (`--fallback new`): a session that cannot be resumed keeps its id and starts over as
//! a new session of its provider. Knows no provider.

use rusqlite::{Connection, named_params};
use serde_json::json;
use sessd_proto::EventType;
use sessd_proto::Timestamp;

use super::sessions::Stored;
use super::{Result, events};

/// Prepares a session to start over, and takes it out of the trash; `false` if it has changed
/// since it was read. The old binding is kept as an earlier one, so that no sweep takes it for a
/// new session. The session is no longer a fork of another, and until a turn succeeds its context
/// counts as lost.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn rebind(
    connection: &Connection,
    row: &Stored,
    provider_session_id: Option<&str>,
    at: Timestamp,
) -> Result<bool> {
    let session = &row.session;
    let changed = connection.execute(
        "UPDATE sessions SET status = 'unknown', reason = 'starting', status_since = :at,
             checked_at = :at, created_at = :at, last_activity = :at, expires_at = NULL,
             trashed_at = NULL, parent_id = NULL, lost_context = 1, revision = revision + 1
         WHERE seq = :seq AND revision = :revision",
        named_params! { ":at": at.0, ":seq": row.seq, ":revision": session.revision },
    )?;
    if changed == 0 {
        return Ok(false);
    }
    connection.execute(
        "UPDATE bindings SET current = 0 WHERE session_id = ?1 AND current = 1",
        [&session.id],
    )?;
    connection.execute(
        "INSERT INTO bindings (home_id, provider_session_id, location, session_id)
         VALUES (?1, ?2, '', ?3)",
        (row.home_id, provider_session_id, &session.id),
    )?;
    let data = json!({
        "from": session.provider_session_id, "to": provider_session_id,
        "status": session.status, "reason": session.reason,
        "was_in_trash": session.trashed_at.is_some(),
    });
    events::append(connection, at, EventType::Rebound, Some(&session.id), &data)?;
    Ok(true)
}

/// Clears the mark for lost context of the session of a turn that has succeeded.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn clear_lost_context(connection: &Connection, turn_id: &str) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET lost_context = 0
         WHERE lost_context AND id = (SELECT session_id FROM turns WHERE id = ?1)",
    )?;
    statement.execute([turn_id])?;
    Ok(())
}
