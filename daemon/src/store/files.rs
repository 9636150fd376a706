//! Stamps of transcripts at the last sweep, so that the next one reads only the files that have
//! changed. Knows no content of a file.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Size in bytes, modification time in nanoseconds and inode of a transcript.
pub type Seen = (u64, i64, u64);

/// Returns the stamps of a home at the last sweep, by path.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn of_home(connection: &Connection, home_id: i64) -> Result<HashMap<String, Seen>> {
    let mut statement = connection
        .prepare_cached("SELECT path, size, mtime_ns, inode FROM files WHERE home_id = ?1")?;
    // A home may have a million files, so the names are looked up once.
    let position = |name| statement.column_index(name);
    let (path, size) = (position("path")?, position("size")?);
    let (mtime_ns, inode) = (position("mtime_ns")?, position("inode")?);
    let mut rows = statement.query([home_id])?;
    let mut seen = HashMap::new();
    while let Some(row) = rows.next()? {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        seen.insert(row.get(path)?, (number(size)?, row.get(mtime_ns)?, number(inode)?));
    }
    Ok(seen)
}

/// Stores the stamp of a transcript.
///
/// # Errors
/// Fails if the registry cannot be written.
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

/// Deletes the stamp of a transcript that no longer exists.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn forget(connection: &Connection, home_id: i64, path: &str) -> Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM files WHERE home_id = ?1 AND path = ?2")?;
    statement.execute((home_id, path))?;
    Ok(())
}
