//! The trash: sessions in it, sessions due for it or for purging, and the tombstones of purged
//! ones. Knows no policy; the registry decides which ages are due.

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::json;
use sessd_proto::{EventType, Timestamp, TrashReason};

use super::sessions::Stored;
use super::{Result, events};
use crate::failpoint;

/// Upper limit of due sessions that one query returns.
const DUE_MAX: u32 = 1_000;

/// The remains of a purged session whose transcript still exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The row number of its home.
    pub home_id: i64,
    /// The part of the home in which the provider's id is unique.
    pub scope: String,
    /// The provider's id.
    pub provider_session_id: String,
    /// The location of the transcript.
    pub location: String,
    /// Its id, which it gets back if it is restored.
    pub session_id: String,
    /// The time at which it was purged.
    pub at: Timestamp,
}

/// Moves a session to the trash; `false` if it has changed since it was read.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn put(
    connection: &Connection,
    row: &Stored,
    at: Timestamp,
    reason: TrashReason,
) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET trashed_at = ?3, revision = revision + 1
         WHERE seq = ?1 AND revision = ?2",
    )?;
    let changed = statement.execute((row.seq, row.session.revision, at.0))? > 0;
    if changed {
        failpoint::reach("delete.marked");
        note(connection, row, at, EventType::Trashed, reason)?;
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
        note(connection, row, at, EventType::Undeleted, TrashReason::Undeleted)?;
    }
    Ok(changed)
}

fn note(
    connection: &Connection,
    row: &Stored,
    at: Timestamp,
    kind: EventType,
    reason: TrashReason,
) -> Result<()> {
    events::append(connection, at, kind, Some(&row.session.id), &json!({ "reason": reason }))
}

/// Returns the sessions whose TTL ended before a time, the longest due first. Pins and tags
/// protect.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn due_by_ttl(connection: &Connection, before: Timestamp) -> Result<Vec<i64>> {
    let sql = "SELECT seq FROM sessions s INDEXED BY due_by_ttl
         WHERE trashed_at IS NULL AND pinned = 0 AND ttl_ms IS NOT NULL
           AND last_activity + ttl_ms <= ?1
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.session_id = s.id)
         ORDER BY last_activity + ttl_ms LIMIT ?2";
    seqs(connection, sql, before)
}

/// Returns the sessions that have been expired, or registered and never started, since before a
/// time.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn due_gone(connection: &Connection, before: Timestamp) -> Result<Vec<i64>> {
    let sql = "SELECT seq FROM sessions s INDEXED BY due_gone
         WHERE trashed_at IS NULL AND pinned = 0 AND (status = 'expired' OR reason = 'starting')
           AND status_since <= ?1
           AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.session_id = s.id)
         ORDER BY status_since LIMIT ?2";
    seqs(connection, sql, before)
}

/// Returns the sessions that have been in the trash since before a time. Keys protect too: a
/// caller's name for a session must not silently point to nothing.
///
/// # Errors
/// Fails if the registry cannot be read.
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

/// Removes a session from the registry; `false` if it has changed since it was read. While its
/// transcript exists, a tombstone keeps it from being discovered again.
///
/// # Errors
/// Fails if the registry cannot be written.
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
        // The event is the only remaining record of it.
        let data = json!({
            "provider": session.provider, "home": session.home, "title": session.title,
            "provider_session_id": session.provider_session_id, "location": row.location,
        });
        events::append(connection, at, EventType::Purged, Some(&session.id), &data)?;
    } else {
        connection.execute("DELETE FROM tombstones WHERE session_id = ?1", [&session.id])?;
    }
    Ok(purged)
}

const TOMBSTONE: &str = "
    SELECT home_id, scope, provider_session_id, location, session_id, at FROM tombstones";

/// Returns the tombstone of a provider's session.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn tombstone(
    connection: &Connection,
    (home_id, scope, provider_session_id): (i64, &str, &str),
) -> Result<Option<Tombstone>> {
    let sql = format!("{TOMBSTONE} WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row((home_id, scope, provider_session_id), read).optional()?)
}

/// Lets the next sweep discover a purged session again, given its id, ours or the provider's.
/// Returns the homes to sweep.
///
/// # Errors
/// Fails if the registry cannot be written.
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

/// True if there is a tombstone for this id, ours or the provider's.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn has_tombstone(connection: &Connection, id: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM tombstones WHERE session_id = ?1 OR provider_session_id = ?1",
    )?;
    Ok(statement.exists([id])?)
}

/// Deletes the tombstones of a session.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn remove_tombstones(connection: &Connection, session_id: &str) -> Result<()> {
    connection.execute("DELETE FROM tombstones WHERE session_id = ?1", [session_id])?;
    Ok(())
}

/// Records the new location of a purged session's transcript.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn move_tombstone(connection: &Connection, stone: &Tombstone, location: &str) -> Result<()> {
    connection.execute(
        "UPDATE tombstones SET location = ?4
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3",
        (stone.home_id, &stone.scope, &stone.provider_session_id, location),
    )?;
    Ok(())
}

/// Tombstones whose transcript is gone. A lifted one (`at` is the minimum) waits for its sweep.
const STALE: &str = "FROM tombstones WHERE at <> -9223372036854775808 AND NOT EXISTS (
    SELECT 1 FROM files f WHERE f.home_id = tombstones.home_id AND f.path = tombstones.location)";

/// Returns the number of tombstones whose transcript is gone.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn count_stale_tombstones(connection: &Connection) -> Result<i64> {
    let sql = format!("SELECT count(*) {STALE}");
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// Deletes the tombstones whose transcript is gone.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn forget_stale_tombstones(connection: &Connection) -> Result<()> {
    connection.execute(&format!("DELETE {STALE}"), [])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    Ok(Tombstone {
        home_id: row.get("home_id")?,
        scope: row.get("scope")?,
        provider_session_id: row.get("provider_session_id")?,
        location: row.get("location")?,
        session_id: row.get("session_id")?,
        at: Timestamp(row.get("at")?),
    })
}
