//! Resolves a selector to sessions: `@key`, an id, a provider's id, or a prefix of an id. It must
//! not know directories or `--last`, which the registry resolves.

use rusqlite::Connection;

use super::Result;

/// Length of the shortest prefix that is looked up, in characters.
pub const PREFIX_MIN: usize = 4;

/// Upper limit of candidates for an ambiguous selector.
const CANDIDATES_MAX: usize = 10;

/// Looks up a prefix of an id. A range uses the index, where LIKE would scan all rows.
pub(super) const BY_ID: &str = "SELECT seq FROM sessions WHERE id >= ?1 AND id < ?2 LIMIT 11";

/// Looks up a prefix of a provider's id.
pub(super) const BY_PROVIDER_ID: &str = "
    SELECT s.seq FROM bindings b JOIN sessions s ON s.id = b.session_id
    WHERE b.provider_session_id >= ?1 AND b.provider_session_id < ?2 AND b.current = 1
    LIMIT 11";

/// Looks up a prefix of an id that a merge has made superfluous.
pub(super) const BY_ALIAS: &str = "
    SELECT s.seq FROM aliases a JOIN sessions s ON s.id = a.session_id
    WHERE a.id >= ?1 AND a.id < ?2 LIMIT 11";

/// Returns the row numbers of matching sessions, at most `CANDIDATES_MAX`. An exact match wins
/// over prefixes.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn resolve(connection: &Connection, selector: &str) -> Result<Vec<i64>> {
    if selector.starts_with('@') {
        let by_key = "SELECT s.seq FROM keys k JOIN sessions s ON s.id = k.session_id
                      WHERE k.key = ?1";
        return seqs(connection, by_key, &[selector]);
    }
    let exact = seqs(
        connection,
        "SELECT seq FROM sessions WHERE id = ?1
         UNION SELECT s.seq FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.provider_session_id = ?1 AND b.current = 1
         UNION SELECT s.seq FROM aliases a JOIN sessions s ON s.id = a.session_id WHERE a.id = ?1
         LIMIT 11",
        &[selector],
    )?;
    if !exact.is_empty() || selector.chars().count() < PREFIX_MIN {
        return Ok(exact);
    }
    let end = format!("{selector}{}", char::MAX);
    let mut found = seqs(connection, BY_ID, &[selector, &end])?;
    found.extend(seqs(connection, BY_PROVIDER_ID, &[selector, &end])?);
    found.extend(seqs(connection, BY_ALIAS, &[selector, &end])?);
    found.sort_unstable();
    found.dedup();
    found.truncate(CANDIDATES_MAX);
    Ok(found)
}

fn seqs(connection: &Connection, sql: &str, parameters: &[&str]) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows =
        statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, i64>(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
