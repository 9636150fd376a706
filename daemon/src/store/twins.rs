//! Twins: sessions with keys of their own that are one transcript. They share one writer. Knows
//! neither leases nor queues.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Replaces the twins among the sessions of these homes; returns true if that changed anything.
/// The first session of a pair names the writer of both.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set(connection: &Connection, homes: &[i64], pairs: &[[String; 2]]) -> Result<bool> {
    let mut of_homes = connection.prepare_cached(
        "SELECT t.session_id, t.writer_id FROM twins t
         JOIN bindings b ON b.session_id = t.session_id AND b.current = 1
         WHERE b.home_id IN (SELECT value FROM json_each(?1))",
    )?;
    let homes = serde_json::json!(homes);
    let before = of_homes.query_map([homes.to_string()], |row| row.try_into())?;
    let before: HashMap<String, String> = before.collect::<rusqlite::Result<_>>()?;
    let mut after = HashMap::new();
    for [writer, other] in pairs {
        // A transcript with three names gives two pairs with the same first session.
        after.insert(writer.clone(), writer.clone());
        after.insert(other.clone(), writer.clone());
    }
    if before == after {
        return Ok(false);
    }
    for id in before.keys() {
        connection.execute("DELETE FROM twins WHERE session_id = ?1", [id])?;
    }
    for (id, writer) in &after {
        connection.execute("INSERT OR REPLACE INTO twins VALUES (?1, ?2)", (id, writer))?;
    }
    Ok(true)
}

/// Returns the writer of each session that has a twin.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn all(connection: &Connection) -> Result<HashMap<String, String>> {
    let mut statement = connection.prepare_cached("SELECT session_id, writer_id FROM twins")?;
    let rows = statement.query_map([], |row| row.try_into())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Two sessions of one transcript.
#[derive(Debug)]
pub struct Pair {
    /// The id of the session that names the writer of both.
    pub writer: String,
    /// The id of the other.
    pub other: String,
    /// A key of the other.
    pub key: String,
}

/// Returns the first `limit` pairs, by their ids.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn pairs(connection: &Connection, limit: usize) -> Result<Vec<Pair>> {
    let mut statement = connection.prepare_cached(
        "SELECT t.writer_id AS writer, t.session_id AS other, min(k.key) AS key
         FROM twins t JOIN keys k ON k.session_id = t.session_id
         WHERE t.session_id <> t.writer_id GROUP BY t.session_id
         ORDER BY t.writer_id, t.session_id LIMIT ?1",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], |row| {
        Ok(Pair { writer: row.get("writer")?, other: row.get("other")?, key: row.get("key")? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
