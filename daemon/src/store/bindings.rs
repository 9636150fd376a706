//! Homes and bindings: the provider session that each session stands for, now and before. Knows
//! no provider's files.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};
use sessd_proto::EventType;
use sessd_proto::Timestamp;

use super::sessions::Stored;
use super::{Error, Result, events, merge};

/// A home that was seen at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeRow {
    /// The row number.
    pub id: i64,
    /// The provider it belongs to.
    pub provider: String,
    /// The directory.
    pub path: String,
    /// Environment variables that select it; `None` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// Records a home and returns its row number.
///
/// # Errors
/// Fails if the registry cannot be written.
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

/// Returns every home that was ever seen.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn homes(connection: &Connection) -> Result<Vec<HomeRow>> {
    let mut statement =
        connection.prepare_cached("SELECT id, provider, path, env FROM homes ORDER BY id")?;
    let rows = statement.query_map([], |row| {
        let env = serde_json::from_str(row.get_ref("env")?.as_str()?).unwrap_or_default();
        let (id, provider) = (row.get("id")?, row.get("provider")?);
        Ok(HomeRow { id, provider, path: row.get("path")?, env })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the session that is currently bound to a provider's id, in this scope or in any, and
/// the time its conversation started.
///
/// # Errors
/// Fails if the registry cannot be read.
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

/// True if a session was bound to the provider's id earlier and is bound to another one now.
///
/// # Errors
/// Fails if the registry cannot be read.
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

/// Binds a registered session to the id that its provider has chosen. If a sweep has already
/// found that id as a session of its own (`found_as`), the two rows are merged.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn bind_provider_id(
    connection: &Connection,
    waiting: &Stored,
    found_as: Option<&str>,
    provider_session_id: &str,
    at: Timestamp,
) -> Result<()> {
    let id = &waiting.session.id;
    if let Some(found_as) = found_as {
        merge::rows(connection, id, found_as)?;
        // Makes the next sweep read the transcript again, as part of the registered session.
        connection.execute(
            "DELETE FROM files WHERE (home_id, path) IN (
                 SELECT home_id, location FROM bindings WHERE session_id = ?1)",
            [found_as],
        )?;
        merge::drop_row(connection, id, found_as)?;
    }
    connection.execute(
        "UPDATE bindings SET provider_session_id = ?2 WHERE session_id = ?1 AND current = 1",
        (id, provider_session_id),
    )?;
    let data = serde_json::json!({ "provider_session_id": provider_session_id });
    events::append(connection, at, EventType::Bound, Some(id), &data)
}

/// True if a transcript of any session was ever seen in this home.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn had_transcripts(connection: &Connection, home_id: i64) -> Result<bool> {
    let any = "SELECT 1 FROM bindings WHERE home_id = ?1 AND location <> ''";
    Ok(connection.prepare_cached(any)?.exists([home_id])?)
}

/// Returns the number of sessions that a home should have. Expired sessions are gone already, and
/// subagents come and go with their parents, so neither counts.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn count_in_home(connection: &Connection, home_id: i64) -> Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.home_id = ?1 AND b.current = 1 AND s.status <> 'expired'
           AND s.kind <> 'subagent'",
    )?;
    Ok(statement.query_row([home_id], |row| row.get(0))?)
}

/// Returns the sessions whose current transcript is at one of these locations of a home. Scans
/// the home: files disappear rarely, while an index would slow down every insert.
///
/// # Errors
/// Fails if the registry cannot be read.
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

/// Returns the row numbers of a home's current bindings by location.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn by_location(connection: &Connection, home_id: i64) -> Result<HashMap<String, i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT location, seq FROM bindings WHERE home_id = ?1 AND current = 1 AND location <> ''",
    )?;
    let rows = statement.query_map([home_id], |row| row.try_into())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Recomputes the predicted expiry of all sessions of a home, after the provider's retention
/// settings changed. `age_ms` counts from the file's modification or from the last activity.
/// Announces the sessions that thereby expire within `lead_ms`; those that come so near later are
/// announced by their checks.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn predict_expiry(
    connection: &Connection,
    home_id: i64,
    (age_ms, by_modification): (Option<i64>, bool),
    (at, lead_ms): (Timestamp, i64),
) -> Result<()> {
    let basis = if by_modification {
        "(SELECT f.mtime_ns / 1000000 FROM files f
          WHERE f.home_id = b.home_id AND f.path = b.location)"
    } else {
        "s.last_activity"
    };
    let near = format!(
        "SELECT s.id, {basis} + ?2 AS new FROM sessions s
         JOIN bindings b ON b.session_id = s.id AND b.current = 1
         WHERE b.home_id = ?1 AND s.reason IS NOT 'deleted_at_next_start'
           AND s.status <> 'expired' AND s.kind <> 'subagent'
           AND new < ?3 AND s.checked_at >= new - ?4
           AND (s.expires_at IS NULL OR s.expires_at >= ?3)
         ORDER BY s.seq"
    );
    let mut near = connection.prepare(&near)?;
    let mut rows = near.query((home_id, age_ms, at.plus_ms(lead_ms).0, lead_ms))?;
    while let Some(row) = rows.next()? {
        let (id, new): (String, i64) = (row.get("id")?, row.get("new")?);
        let data = serde_json::json!({ "expires_at": Timestamp(new) });
        events::append(connection, at, EventType::Expiring, Some(&id), &data)?;
    }
    let update = format!(
        "UPDATE sessions AS s SET expires_at = {basis} + ?2, revision = revision + 1
         FROM bindings b
         WHERE b.session_id = s.id AND b.current = 1 AND b.home_id = ?1
           AND s.reason IS NOT 'deleted_at_next_start'
           AND s.expires_at IS NOT {basis} + ?2"
    );
    connection.execute(&update, (home_id, age_ms))?;
    Ok(())
}
