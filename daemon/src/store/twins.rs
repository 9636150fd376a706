//! Twins: sessions that are one transcript and stay apart, since both have keys, or until the one
//! that goes is no longer in use. They share one writer. Knows neither leases nor queues.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Adds pairs of twins, and drops all others whose current binding is in one of these homes. The
/// first session of a pair names the writer of both.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set(connection: &Connection, pairs: &[[String; 2]], only_in: &[i64]) -> Result<()> {
    let mut of_homes = connection.prepare_cached(
        "SELECT t.session_id FROM twins t
         JOIN bindings b ON b.session_id = t.session_id AND b.current = 1
         WHERE b.home_id IN (SELECT value FROM json_each(?1))",
    )?;
    let homes = serde_json::json!(only_in);
    let before = of_homes.query_map([homes.to_string()], |row| row.get(0))?;
    let before: Vec<String> = before.collect::<rusqlite::Result<_>>()?;
    // A transcript with three names gives two pairs with the same first session.
    let after: HashMap<&String, &String> =
        pairs.iter().flat_map(|[writer, other]| [(writer, writer), (other, writer)]).collect();
    for id in before.iter().filter(|id| !after.contains_key(id)) {
        connection.execute("DELETE FROM twins WHERE session_id = ?1", [id])?;
    }
    for (id, writer) in after {
        let sql = "INSERT INTO twins VALUES (?1, ?2) ON CONFLICT DO UPDATE
                   SET writer_id = excluded.writer_id WHERE writer_id <> excluded.writer_id";
        connection.execute(sql, (id, writer))?;
    }
    Ok(())
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

/// Two sessions with keys that are one transcript.
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
         WHERE t.session_id <> t.writer_id
             AND EXISTS (SELECT 1 FROM keys w WHERE w.session_id = t.writer_id)
         GROUP BY t.session_id
         ORDER BY t.writer_id, t.session_id LIMIT ?1",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], |row| {
        Ok(Pair { writer: row.get("writer")?, other: row.get("other")?, key: row.get("key")? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
