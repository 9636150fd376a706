//! Keeps the row of a session whose transcript got another name, and finds the row of its parent.
//! Knows no files: the caller has seen where the transcript is.

use rusqlite::{Connection, OptionalExtension};
use sessd_proto::Facts;
use uuid::Uuid;

use super::import::{FoundSession, Key, Known};
use super::merge::Name;
use super::{Result, files};

/// Gives the session whose transcript has moved its new name, unless another one has it.
pub(super) fn follow(connection: &Connection, from: &Name, found: &FoundSession) -> Result<()> {
    let Facts { scope, provider_session_id, .. } = &found.facts;
    let mut statement = connection.prepare_cached(
        "UPDATE OR IGNORE bindings SET home_id = ?1, scope = ?2, location = ?3
         WHERE home_id = ?4 AND location = ?5 AND provider_session_id = ?6 AND current = 1",
    )?;
    statement.execute((
        found.home_id,
        scope,
        &found.location,
        from.home_id,
        &from.location,
        provider_session_id,
    ))?;
    files::forget(connection, from.home_id, &from.location)
}

/// Returns the id for a new session: its own, unless that has become another one's by a merge.
pub(super) fn free_id(connection: &Connection, id: &str) -> Result<String> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM aliases WHERE id = ?1")?;
    Ok(if statement.exists([id])? { Uuid::new_v4().to_string() } else { id.to_owned() })
}

/// Moves a binding from the scope that it had earlier.
pub(super) fn change_scope(
    connection: &Connection,
    key: Key<'_>,
    earlier: &str,
) -> Result<Option<Known>> {
    let mut statement = connection.prepare_cached(
        "UPDATE bindings SET scope = ?2
         WHERE home_id = ?1 AND scope = ?4 AND provider_session_id = ?3
         RETURNING session_id, current",
    )?;
    let known = statement.query_row((key.0, key.1, key.2, earlier), |row| {
        Ok(Known { id: row.get("session_id")?, is_current: row.get("current")? })
    });
    Ok(known.optional()?)
}

/// Returns our id of the session that it was forked from, whose transcript may have moved too.
pub(super) fn parent_id(connection: &Connection, found: &FoundSession) -> Result<Option<String>> {
    let Some(parent) = &found.parent else { return Ok(found.parent_id.clone()) };
    let mut statement = connection.prepare_cached(
        "SELECT session_id FROM bindings
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3",
    )?;
    let key = (found.home_id, &found.facts.scope, parent);
    let known = statement.query_row(key, |row| row.get("session_id")).optional()?;
    Ok(known.or_else(|| found.parent_id.clone()))
}
