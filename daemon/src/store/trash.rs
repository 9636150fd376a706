//! The trash: what is in it, what is due for it, and what remains of what has left it.

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::json;
use sessd_proto::Timestamp;

use super::sessions::Stored;
use super::{Result, events};
use crate::failpoint;

/// Due sessions that are answered at once, of each kind.
const DUE_MAX: u32 = 1_000;

/// What is remembered of a session that left the trash while its transcript exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The home it was in.
    pub home_id: i64,
    /// What makes the provider's id unique in the home.
    pub scope: String,
    /// The provider's own id.
    pub provider_session_id: String,
    /// Where the transcript is.
    pub location: String,
    /// The id it had, and gets back.
    pub session_id: String,
    /// When it left the trash.
    pub at: Timestamp,
}

/// Moves a session to the trash; `false` if it has changed since it was read.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn put(connection: &Connection, row: &Stored, at: Timestamp, reason: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET trashed_at = ?3, revision = revision + 1
         WHERE seq = ?1 AND revision = ?2",
    )?;
    let changed = statement.execute((row.seq, row.session.revision, at.0))? > 0;
    if changed {
        failpoint::reach("delete.marked");
        note(connection, row, at, "trashed", reason)?;
    }
    Ok(changed)
}

/// Takes a session out of the trash; `false` if it has changed since it was read. Restoring an
/// expired session restarts its grace period.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn take_out(connection: &Connection, row: &Stored, at: Timestamp) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET trashed_at = NULL, status_since = max(status_since, ?3),
             revision = revision + 1
         WHERE seq = ?1 AND revision = ?2",
    )?;
    let changed = statement.execute((row.seq, row.session.revision, at.0))? > 0;
    if changed {
        failpoint::reach("undelete.marked");
        note(connection, row, at, "undeleted", "undeleted")?;
    }
    Ok(changed)
}

fn note(
    connection: &Connection,
    row: &Stored,
    at: Timestamp,
    kind: &str,
    reason: &str,
) -> Result<()> {
    events::append(connection, at, kind, Some(&row.session.id), &json!({ "reason": reason }))
}

/// Sessions whose time to live ended before a moment, the longest over first. Tags protect.
///
/// # Errors
/// Those of SQLite.
pub fn due_by_ttl(connection: &Connection, before: Timestamp) -> Result<Vec<i64>> {
    let sql = "SELECT seq FROM sessions s INDEXED BY due_by_ttl
         WHERE trashed_at IS NULL AND pinned = 0 AND ttl_ms IS NOT NULL
           AND last_activity + ttl_ms <= ?1
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.session_id = s.id)
         ORDER BY last_activity + ttl_ms LIMIT ?2";
    seqs(connection, sql, before)
}

/// Sessions that were gone, or have never begun, before a moment.
///
/// # Errors
/// Those of SQLite.
pub fn due_gone(connection: &Connection, before: Timestamp) -> Result<Vec<i64>> {
    let sql = "SELECT seq FROM sessions s INDEXED BY due_gone
         WHERE trashed_at IS NULL AND pinned = 0 AND (status = 'expired' OR reason = 'starting')
           AND status_since <= ?1
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.session_id = s.id)
         ORDER BY status_since LIMIT ?2";
    seqs(connection, sql, before)
}

/// Sessions that were in the trash before a moment. Keys protect: what a caller calls a session
/// must never come to mean nothing in silence.
///
/// # Errors
/// Those of SQLite.
pub fn due_purge(connection: &Connection, before: Timestamp) -> Result<Vec<i64>> {
    let sql = "SELECT seq FROM sessions s INDEXED BY due_purge
         WHERE trashed_at IS NOT NULL AND pinned = 0 AND trashed_at <= ?1
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.session_id = s.id)
           AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.session_id = s.id)
         ORDER BY trashed_at LIMIT ?2";
    seqs(connection, sql, before)
}

fn seqs(connection: &Connection, sql: &str, before: Timestamp) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((before.0, DUE_MAX), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes a session from the registry; `false` if it has changed since it was read. While a
/// transcript of it exists a tombstone keeps it from being found again.
///
/// # Errors
/// Those of SQLite.
pub fn purge(connection: &Connection, row: &Stored, at: Timestamp) -> Result<bool> {
    let session = &row.session;
    connection.execute(
        "INSERT OR REPLACE INTO tombstones
             (home_id, scope, provider_session_id, location, session_id, at)
         SELECT b.home_id, b.scope, b.provider_session_id, b.location, b.session_id, ?2
         FROM bindings b JOIN files f ON f.home_id = b.home_id AND f.path = b.location
         WHERE b.session_id = ?1 AND b.provider_session_id IS NOT NULL",
        (&session.id, at.0),
    )?;
    failpoint::reach("cleanup.buried");
    let purged = connection.execute(
        "DELETE FROM sessions WHERE seq = ?1 AND revision = ?2",
        (row.seq, session.revision),
    )? > 0;
    if purged {
        // The last that is known of it.
        let data = json!({
            "provider": session.provider, "home": session.home, "title": session.title,
            "provider_session_id": session.provider_session_id, "location": row.location,
        });
        events::append(connection, at, "purged", Some(&session.id), &data)?;
    } else {
        connection.execute("DELETE FROM tombstones WHERE session_id = ?1", [&session.id])?;
    }
    Ok(purged)
}

const TOMBSTONE: &str = "
    SELECT home_id, scope, provider_session_id, location, session_id, at FROM tombstones";

/// The tombstone of what a provider calls so.
///
/// # Errors
/// Those of SQLite.
pub fn tombstone(
    connection: &Connection,
    (home_id, scope, provider_session_id): (i64, &str, &str),
) -> Result<Option<Tombstone>> {
    let sql = format!("{TOMBSTONE} WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row((home_id, scope, provider_session_id), read).optional()?)
}

/// Lets the transcripts of a purged session be found again, named by its id, ours or the
/// provider's; answers the homes to sweep.
///
/// # Errors
/// Those of SQLite.
pub fn lift_tombstones(connection: &Connection, id: &str) -> Result<Vec<i64>> {
    connection.execute(
        "DELETE FROM files WHERE (home_id, path) IN (
             SELECT home_id, location FROM tombstones
             WHERE session_id = ?1 OR provider_session_id = ?1)",
        [id],
    )?;
    let mut statement = connection.prepare_cached(
        "UPDATE tombstones SET at = ?2 WHERE session_id = ?1 OR provider_session_id = ?1
         RETURNING home_id",
    )?;
    let homes = statement.query_map((id, i64::MIN), |row| row.get(0))?;
    Ok(homes.collect::<rusqlite::Result<_>>()?)
}

/// True if there is a tombstone of a session by its id, ours or the provider's.
///
/// # Errors
/// Those of SQLite.
pub fn has_tombstone(connection: &Connection, id: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM tombstones WHERE session_id = ?1 OR provider_session_id = ?1",
    )?;
    Ok(statement.exists([id])?)
}

/// Removes the tombstones of a session.
///
/// # Errors
/// Those of SQLite.
pub fn remove_tombstones(connection: &Connection, session_id: &str) -> Result<()> {
    connection.execute("DELETE FROM tombstones WHERE session_id = ?1", [session_id])?;
    Ok(())
}

/// The transcript of a purged session has moved.
///
/// # Errors
/// Those of SQLite.
pub fn move_tombstone(connection: &Connection, stone: &Tombstone, location: &str) -> Result<()> {
    connection.execute(
        "UPDATE tombstones SET location = ?4
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3",
        (stone.home_id, &stone.scope, &stone.provider_session_id, location),
    )?;
    Ok(())
}

/// One that was lifted waits for the sweep that finds the transcript again.
const STALE: &str = "FROM tombstones WHERE at <> -9223372036854775808 AND NOT EXISTS (
    SELECT 1 FROM files f WHERE f.home_id = tombstones.home_id AND f.path = tombstones.location)";

/// How many tombstones stand for transcripts that are gone.
///
/// # Errors
/// Those of SQLite.
pub fn count_stale_tombstones(connection: &Connection) -> Result<i64> {
    let sql = format!("SELECT count(*) {STALE}");
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// Forgets tombstones of transcripts that are gone.
///
/// # Errors
/// Those of SQLite.
pub fn forget_stale_tombstones(connection: &Connection) -> Result<()> {
    connection.execute(&format!("DELETE {STALE}"), [])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    Ok(Tombstone {
        home_id: row.get(0)?,
        scope: row.get(1)?,
        provider_session_id: row.get(2)?,
        location: row.get(3)?,
        session_id: row.get(4)?,
        at: Timestamp(row.get(5)?),
    })
}
