//! Who has the exclusive right to run a session. A lease belongs to a process.

use rusqlite::{Connection, OptionalExtension, Row};
use sessd_proto::Timestamp;

use super::{Result, events};

/// The exclusive right to run a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The session.
    pub session_id: String,
    /// The process that has it.
    pub pid: u32,
    /// When that process started, in clock ticks since boot.
    pub start_ticks: u64,
    /// The boot in which it runs.
    pub boot_id: String,
    /// `interactive` or `turn`.
    pub kind: String,
    /// Since when.
    pub since: Timestamp,
}

/// The lease of a session, whether or not its process still lives.
///
/// # Errors
/// Those of SQLite.
pub fn of_session(connection: &Connection, session_id: &str) -> Result<Option<Lease>> {
    let mut statement = connection.prepare_cached("SELECT * FROM leases WHERE session_id = ?1")?;
    Ok(statement.query_row([session_id], lease).optional()?)
}

/// Every lease.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<Lease>> {
    let mut statement = connection.prepare_cached("SELECT * FROM leases")?;
    let rows = statement.query_map([], lease)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Leases that people have of sessions of a home.
///
/// # Errors
/// Those of SQLite.
pub fn of_home(connection: &Connection, home_id: i64) -> Result<Vec<Lease>> {
    // In this order: there are few leases, and a home may have a million bindings.
    let mut statement = connection.prepare_cached(
        "SELECT l.* FROM leases l CROSS JOIN bindings b
             ON b.session_id = l.session_id AND b.current = 1
         WHERE b.home_id = ?1 AND l.kind = 'interactive'",
    )?;
    let rows = statement.query_map([home_id], lease)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A process has begun another session: keys, lease and agent move to that, ids do not.
///
/// # Errors
/// Those of SQLite.
pub fn move_on(connection: &Connection, lease: &Lease, to: &str, at: Timestamp) -> Result<Lease> {
    let from = &lease.session_id;
    let moved = Lease { session_id: to.to_owned(), ..lease.clone() };
    end(connection, lease)?;
    put(connection, &moved)?;
    connection.execute("UPDATE keys SET session_id = ?2 WHERE session_id = ?1", (from, to))?;
    connection.execute(
        "UPDATE sessions SET parent_id = ifnull(parent_id, ?2), revision = revision + 1,
             (agent, launch) = (SELECT agent, launch FROM sessions WHERE id = ?2)
         WHERE id = ?1",
        (to, from),
    )?;
    events::append(connection, at, "moved_on", Some(from), &serde_json::json!({ "to": to }))?;
    Ok(moved)
}

/// Records a lease; the caller has seen that nobody alive has one.
///
/// # Errors
/// Those of SQLite.
pub fn put(connection: &Connection, lease: &Lease) -> Result<()> {
    let Lease { session_id, pid, start_ticks, boot_id, kind, since } = lease;
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO leases (session_id, pid, start_ticks, boot_id, kind, since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    statement.execute((session_id, pid, start_ticks.cast_signed(), boot_id, kind, since.0))?;
    Ok(())
}

/// Ends a lease, if it is still the one of this process.
///
/// # Errors
/// Those of SQLite.
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
        kind: row.get("kind")?,
        since: Timestamp(row.get("since")?),
    })
}
