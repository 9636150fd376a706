//! Leases: exclusive rights to run a session. Each belongs to a process; the registry decides
//! whether that process still lives.

use rusqlite::{Connection, Row};
use sessd_proto::{EventType, LeaseKind, Timestamp};

use super::{Result, events};

/// An exclusive right to run a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The session.
    pub session_id: String,
    /// The process that holds it.
    pub pid: u32,
    /// The start time of that process, in clock ticks since boot.
    pub start_ticks: u64,
    /// The id of the boot in which it runs.
    pub boot_id: String,
    /// `interactive` or `turn`.
    pub kind: LeaseKind,
    /// The time at which it was taken.
    pub since: Timestamp,
}

/// Returns the leases of a session and of its twins, its own first, even if their processes have
/// ended.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn of_session(connection: &Connection, session_id: &str) -> Result<Vec<Lease>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM leases WHERE session_id = ?1 OR session_id IN (
             SELECT other.session_id FROM twins t JOIN twins other USING (writer_id)
             WHERE t.session_id = ?1)
         ORDER BY session_id <> ?1",
    )?;
    let found = statement.query_map([session_id], lease)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Returns all leases.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn all(connection: &Connection) -> Result<Vec<Lease>> {
    let mut statement = connection.prepare_cached("SELECT * FROM leases")?;
    let rows = statement.query_map([], lease)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the interactive leases on sessions of a home.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn of_home(connection: &Connection, home_id: i64) -> Result<Vec<Lease>> {
    // CROSS JOIN fixes the order: there are few leases, and a home may have a million bindings.
    let mut statement = connection.prepare_cached(
        "SELECT l.* FROM leases l CROSS JOIN bindings b
             ON b.session_id = l.session_id AND b.current = 1
         WHERE b.home_id = ?1 AND l.kind = 'interactive'",
    )?;
    let rows = statement.query_map([home_id], lease)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Moves lease, keys and agent to another session that the same process has started. Ids do not
/// move.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn move_on(connection: &Connection, lease: &Lease, to: &str, at: Timestamp) -> Result<Lease> {
    let moved = Lease { session_id: to.to_owned(), ..lease.clone() };
    end(connection, lease)?;
    put(connection, &moved)?;
    move_keys(connection, &lease.session_id, to, at)?;
    Ok(moved)
}

/// Moves keys and agent to a copy in which the person went on, and pins it like its original;
/// nothing if it has a parent, since then they were moved before.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn succeed(connection: &Connection, from: &str, to: &str, at: Timestamp) -> Result<()> {
    let is_new = "SELECT 1 FROM sessions WHERE id = ?1 AND parent_id IS NULL";
    if !connection.prepare_cached(is_new)?.exists([to])? {
        return Ok(());
    }
    let pin = "UPDATE sessions SET pinned = 1
         WHERE id = ?1 AND pinned = 0 AND (SELECT pinned FROM sessions WHERE id = ?2)";
    connection.execute(pin, (to, from))?;
    move_keys(connection, from, to, at)
}

fn move_keys(connection: &Connection, from: &str, to: &str, at: Timestamp) -> Result<()> {
    connection.execute("UPDATE keys SET session_id = ?2 WHERE session_id = ?1", (from, to))?;
    connection.execute(
        "UPDATE sessions SET parent_id = ifnull(parent_id, ?2), revision = revision + 1,
             (agent, launch) = (SELECT agent, launch FROM sessions WHERE id = ?2)
         WHERE id = ?1",
        (to, from),
    )?;
    events::append(connection, at, EventType::MovedOn, Some(from), &serde_json::json!({ "to": to }))
}

/// Records a lease. The caller has made sure that no living process holds one.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn put(connection: &Connection, lease: &Lease) -> Result<()> {
    let Lease { session_id, pid, start_ticks, boot_id, kind, since } = lease;
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO leases (session_id, pid, start_ticks, boot_id, kind, since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    statement.execute((
        session_id,
        pid,
        start_ticks.cast_signed(),
        boot_id,
        kind.as_str(),
        since.0,
    ))?;
    Ok(())
}

/// Ends a lease if it still belongs to this process.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn end(connection: &Connection, lease: &Lease) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM leases WHERE session_id = ?1 AND pid = ?2 AND start_ticks = ?3",
    )?;
    statement.execute((&lease.session_id, lease.pid, lease.start_ticks.cast_signed()))?;
    Ok(())
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease {
        session_id: row.get("session_id")?,
        pid: row.get("pid")?,
        start_ticks: row.get::<_, i64>("start_ticks")?.cast_unsigned(),
        boot_id: row.get("boot_id")?,
        kind: LeaseKind::parse(row.get_ref("kind")?.as_str()?).unwrap_or_default(),
        since: Timestamp(row.get("since")?),
    })
}
