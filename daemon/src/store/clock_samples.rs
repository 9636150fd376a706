//! Recorded clock samples (wall clock next to uptime), used to detect a clock that was set.
//!
//! Cleanup deletes by age, so a wall clock that jumps ahead by a month would delete a month of
//! sessions at once. A single reading cannot show that. Each sample therefore holds the wall
//! clock together with the uptime of the same moment: if the two have advanced by different
//! amounts between samples, the clock was set. Uptime starts over with every boot, hence the boot
//! id. Samples are stored because the clock may be set while no daemon runs, and because
//! deletions need two samples that are an hour of uptime apart. They are judged in `clock.rs`.

use rusqlite::Connection;
use sessd_proto::Timestamp;

use super::Result;
use crate::clock::ClockSample;

/// Samples to keep: more than two days, as one is stored every ten minutes at most.
const SAMPLES_MAX: u32 = 300;

/// Returns the stored samples, oldest first.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn all(connection: &Connection) -> Result<Vec<ClockSample>> {
    let mut statement =
        connection.prepare_cached("SELECT at, boot_id, uptime_ms FROM looks ORDER BY seq")?;
    let rows = statement.query_map([], |row| {
        let at = Timestamp(row.get("at")?);
        Ok(ClockSample { at, boot_id: row.get("boot_id")?, uptime_ms: row.get("uptime_ms")? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Stores a sample and drops the oldest ones beyond the limit.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn append(connection: &Connection, sample: &ClockSample) -> Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT INTO looks (at, boot_id, uptime_ms) VALUES (?1, ?2, ?3)")?;
    let seq = statement.insert((sample.at.0, &sample.boot_id, sample.uptime_ms))?;
    connection.execute("DELETE FROM looks WHERE seq <= ?1", [seq - i64::from(SAMPLES_MAX)])?;
    Ok(())
}
