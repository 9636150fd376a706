//! What the last sweep saw of each transcript, so that the next one reads only what changed.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Size, modification time in nanoseconds and inode of a transcript.
pub type Seen = (u64, i64, u64);

/// Everything the last sweep saw of a home, by path.
///
/// # Errors
/// Those of SQLite.
pub fn of_home(connection: &Connection, home_id: i64) -> Result<HashMap<String, Seen>> {
    let mut statement = connection
        .prepare_cached("SELECT path, size, mtime_ns, inode FROM files WHERE home_id = ?1")?;
    let mut rows = statement.query([home_id])?;
    let mut seen = HashMap::new();
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        seen.insert(row.get(0)?, (number(1)?, row.get(2)?, number(3)?));
    }
    Ok(seen)
}

/// Remembers what was seen of a transcript.
///
/// # Errors
/// Those of SQLite.
pub fn remember(connection: &Connection, home_id: i64, path: &str, seen: Seen) -> Result<()> {
    let (size, mtime_ns, inode) = seen;
    let mut statement = connection.prepare_cached(
        "INSERT INTO files (home_id, path, size, mtime_ns, inode) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,
             inode = excluded.inode",
    )?;
    statement.execute((home_id, path, size.cast_signed(), mtime_ns, inode.cast_signed()))?;
    Ok(())
}

/// Forgets a transcript that is not there any more.
///
/// # Errors
/// Those of SQLite.
pub fn forget(connection: &Connection, home_id: i64, path: &str) -> Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM files WHERE home_id = ?1 AND path = ?2")?;
    statement.execute((home_id, path))?;
    Ok(())
}
