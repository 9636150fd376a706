//! Earlier looks at the clocks.

use rusqlite::Connection;
use sessd_proto::Timestamp;

use super::Result;
use crate::clock::ClockSample;

/// Looks that are kept: more than two days of those that tell something new.
const KEPT: u32 = 300;

/// The earlier looks, oldest first.
///
/// # Errors
/// Those of SQLite.
pub fn all(connection: &Connection) -> Result<Vec<ClockSample>> {
    let mut statement =
        connection.prepare_cached("SELECT at, boot_id, uptime_ms FROM looks ORDER BY seq")?;
    let rows = statement.query_map([], |row| {
        Ok(ClockSample { at: Timestamp(row.get(0)?), boot_id: row.get(1)?, uptime_ms: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Remembers a look.
///
/// # Errors
/// Those of SQLite.
pub fn append(connection: &Connection, look: &ClockSample) -> Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT INTO looks (at, boot_id, uptime_ms) VALUES (?1, ?2, ?3)")?;
    let seq = statement.insert((look.at.0, &look.boot_id, look.uptime_ms))?;
    connection.execute("DELETE FROM looks WHERE seq <= ?1", [seq - i64::from(KEPT)])?;
    Ok(())
}
