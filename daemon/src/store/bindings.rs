//! Which provider session is a session's: homes and bindings.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension};
use sessd_proto::Timestamp;

use super::sessions::Stored;
use super::{Error, Result, events};

/// A home that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeRow {
    /// Its number.
    pub id: i64,
    /// Whose home it is.
    pub provider: String,
    /// The directory.
    pub path: String,
    /// Variables that select it; `None` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// Remembers a home; answers its number.
///
/// # Errors
/// Those of SQLite.
pub fn remember_home(
    connection: &Connection,
    provider: &str,
    path: &str,
    env: &BTreeMap<String, Option<String>>,
) -> Result<i64> {
    let env = serde_json::to_string(env).map_err(|error| Error::Other(error.to_string()))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO homes (provider, path, env) VALUES (?1, ?2, ?3)
         ON CONFLICT (provider, path) DO UPDATE SET env = excluded.env RETURNING id",
    )?;
    Ok(statement.query_row((provider, path, env), |row| row.get(0))?)
}

/// Every home that was ever seen.
///
/// # Errors
/// Those of SQLite.
pub fn homes(connection: &Connection) -> Result<Vec<HomeRow>> {
    let mut statement =
        connection.prepare_cached("SELECT id, provider, path, env FROM homes ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let env = serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default();
        Ok(HomeRow { id: row.get(0)?, provider: row.get(1)?, path: row.get(2)?, env })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The session that a provider's id means now, in this scope or in any, and since when there has
/// been such a conversation.
///
/// # Errors
/// Those of SQLite.
pub fn bound_to(
    connection: &Connection,
    home_id: i64,
    scope: Option<&str>,
    provider_session_id: &str,
) -> Result<Option<(String, Timestamp)>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.id, s.created_at FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.home_id = ?1 AND b.scope = ifnull(?2, b.scope) AND b.provider_session_id = ?3
           AND b.current = 1",
    )?;
    let found = statement.query_row((home_id, scope, provider_session_id), |row| {
        Ok((row.get(0)?, Timestamp(row.get(1)?)))
    });
    Ok(found.optional()?)
}

/// True if the provider's id meant a session that has left it behind.
///
/// # Errors
/// Those of SQLite.
pub fn was_bound(
    connection: &Connection,
    home_id: i64,
    scope: Option<&str>,
    provider_session_id: &str,
) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM bindings WHERE home_id = ?1 AND scope = ifnull(?2, scope)
             AND provider_session_id = ?3 AND current = 0)",
    )?;
    Ok(statement.query_row((home_id, scope, provider_session_id), |row| row.get(0))?)
}

/// Gives a session that waited for it the provider's id. What a sweep has found under that id a
/// moment ago becomes part of it, with everything that was done to it meanwhile.
///
/// # Errors
/// Those of SQLite.
pub fn bind_provider_id(
    connection: &Connection,
    waiting: &Stored,
    found_as: Option<&str>,
    provider_session_id: &str,
    at: Timestamp,
) -> Result<()> {
    let id = &waiting.session.id;
    if let Some(found_as) = found_as {
        merge(connection, id, found_as)?;
    }
    connection.execute(
        "UPDATE bindings SET provider_session_id = ?2 WHERE session_id = ?1 AND current = 1",
        (id, provider_session_id),
    )?;
    let data = serde_json::json!({ "provider_session_id": provider_session_id });
    events::append(connection, at, "bound", Some(id), &data)
}

/// Makes one session of two that are the same.
fn merge(connection: &Connection, id: &str, found_as: &str) -> Result<()> {
    for sql in [
        "UPDATE sessions AS s SET pinned = max(s.pinned, o.pinned),
             ttl_ms = ifnull(s.ttl_ms, o.ttl_ms), own_title = ifnull(s.own_title, o.own_title),
             trashed_at = o.trashed_at, revision = s.revision + 1
         FROM sessions o WHERE s.id = ?1 AND o.id = ?2",
        "INSERT INTO tags (session_id, tag, session_seq, last_activity, created_at, expires_key)
         SELECT s.id, t.tag, s.seq, s.last_activity, s.created_at, s.expires_key
         FROM tags t JOIN sessions s ON s.id = ?1 WHERE t.session_id = ?2
         ON CONFLICT DO NOTHING",
        "UPDATE keys SET session_id = ?1 WHERE session_id = ?2",
        "UPDATE turns SET session_id = ?1 WHERE session_id = ?2",
        "UPDATE sessions SET parent_id = ?1 WHERE parent_id = ?2",
    ] {
        connection.execute(sql, (id, found_as))?;
    }
    // Read again by the sweep, this time as the session that waited.
    connection.execute(
        "DELETE FROM files WHERE (home_id, path) IN (
             SELECT home_id, location FROM bindings WHERE session_id = ?1)",
        [found_as],
    )?;
    connection.execute("DELETE FROM sessions WHERE id = ?1", [found_as])?;
    Ok(())
}

/// True if a session of a home is known of which a transcript was seen there.
///
/// # Errors
/// Those of SQLite.
pub fn had_transcripts(connection: &Connection, home_id: i64) -> Result<bool> {
    let any = "SELECT 1 FROM bindings WHERE home_id = ?1 AND location <> ''";
    Ok(connection.prepare_cached(any)?.exists([home_id])?)
}

/// How many sessions a home is believed to have: those that expired long ago are no part of it,
/// and subagents come and go with their sessions.
///
/// # Errors
/// Those of SQLite.
pub fn count_in_home(connection: &Connection, home_id: i64) -> Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.home_id = ?1 AND b.current = 1 AND s.status <> 'expired'
           AND s.kind <> 'subagent'",
    )?;
    Ok(statement.query_row([home_id], |row| row.get(0))?)
}

/// The sessions whose current transcript is at one of these locations of a home. Looks at all of
/// the home: an index for what vanishes now and then would cost every session that comes.
///
/// # Errors
/// Those of SQLite.
pub fn at_locations(
    connection: &Connection,
    home_id: i64,
    locations: &HashSet<String>,
) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.seq, b.location FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.home_id = ?1 AND b.current = 1",
    )?;
    let mut rows = statement.query([home_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if locations.contains(&row.get::<_, String>(1)?) {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// Predicts the expiry of all sessions of a home anew, after the provider's settings changed.
///
/// # Errors
/// Those of SQLite.
pub fn predict_expiry(
    connection: &Connection,
    home_id: i64,
    age_ms: Option<i64>,
    by_modification: bool,
) -> Result<()> {
    let basis = if by_modification {
        "(SELECT f.mtime_ns / 1000000 FROM files f
          WHERE f.home_id = b.home_id AND f.path = b.location)"
    } else {
        "sessions.last_activity"
    };
    let sql = format!(
        "UPDATE sessions SET expires_at = {basis} + ?2, revision = revision + 1
         FROM bindings b
         WHERE b.session_id = sessions.id AND b.current = 1 AND b.home_id = ?1
           AND sessions.expires_at IS NOT {basis} + ?2"
    );
    connection.execute(&sql, (home_id, age_ms))?;
    Ok(())
}
