//! Merges rows of one transcript: a session that was registered and also found by a sweep, or one
//! that was found under two names. Knows neither files nor why two names are the same.
//!
//! Nothing of the dropped row is lost: its tags, pin, keys, turns and children move to the other,
//! and its id stays a selector.

use rusqlite::{Connection, OptionalExtension, named_params};
use serde_json::json;
use sessd_proto::{EventType, Timestamp};

use super::{Result, columns, events};

/// The name of a transcript: where it is in which home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The row number of the home.
    pub home_id: i64,
    /// The location.
    pub location: String,
}

/// Two names of one transcript, and the row number of the current binding of each.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The name that stays.
    pub kept: (Name, i64),
    /// The name that goes.
    pub other: (Name, i64),
}

/// The result of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// There is one row now.
    One,
    /// Both rows have to stay for now: they are twins. Their ids.
    Apart([String; 2]),
    /// One of them has another transcript by now.
    Changed,
}

/// A row with what decides whether it is kept.
struct Candidate {
    id: String,
    seq: i64,
    /// The row number of the binding.
    binding: i64,
    has_keys: bool,
    /// True if a process has it open, or turns wait or run in it.
    is_in_use: bool,
    trashed_at: Option<i64>,
}

/// Makes one row of each pair of names of one transcript. It gets the first name of the pair. The
/// row with a key, a lease or turns to run is kept, else the one that is not in the trash, else the
/// older. Its transcript is read again by the next import, since it may be that of the other row.
///
/// # Errors
/// Fails if the registry cannot be read or written.
pub fn names(connection: &Connection, pairs: &[Pair], at: Timestamp) -> Result<Vec<Merged>> {
    let merge = |Pair { kept, other }: &Pair| {
        let rows = (candidate(connection, kept)?, candidate(connection, other)?);
        let (Some(kept_row), Some(other_row)) = rows else { return Ok(Merged::Changed) };
        let merged = merge_candidates(connection, &kept_row, &other_row, at)?;
        if merged == Merged::One {
            for (Name { home_id, location }, _) in [kept, other] {
                super::files::forget(connection, *home_id, location)?;
            }
        }
        Ok(merged)
    };
    pairs.iter().map(merge).collect()
}

fn candidate(
    connection: &Connection,
    (Name { home_id, location }, binding): &(Name, i64),
) -> Result<Option<Candidate>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.id, s.seq, s.trashed_at,
             EXISTS (SELECT 1 FROM keys WHERE session_id = s.id) AS has_keys,
             EXISTS (SELECT 1 FROM leases WHERE session_id = s.id)
                 OR EXISTS (SELECT 1 FROM turns WHERE session_id = s.id
                     AND +state IN ('queued', 'running')) AS is_in_use
         FROM bindings b JOIN sessions s ON s.id = b.session_id
         WHERE b.seq = ?1 AND b.current = 1 AND b.home_id = ?2 AND b.location = ?3",
    )?;
    let found = statement.query_row((binding, home_id, location), |row| {
        Ok(Candidate {
            id: row.get("id")?,
            seq: row.get("seq")?,
            binding: *binding,
            has_keys: row.get("has_keys")?,
            is_in_use: row.get("is_in_use")?,
            trashed_at: row.get("trashed_at")?,
        })
    });
    Ok(found.optional()?)
}

/// Merges two rows; `kept` has the binding that stays.
fn merge_candidates(
    connection: &Connection,
    kept: &Candidate,
    other: &Candidate,
    at: Timestamp,
) -> Result<Merged> {
    // The one in use names the writer: its turns wait in its queue already.
    let apart = |first: &Candidate, second: &Candidate| {
        let (first, second) =
            if second.is_in_use && !first.is_in_use { (second, first) } else { (first, second) };
        Ok(Merged::Apart([first.id.clone(), second.id.clone()]))
    };
    if kept.has_keys && other.has_keys {
        return apart(kept, other);
    }
    let rank = |row: &Candidate| (!row.has_keys, !row.is_in_use, row.trashed_at.is_some(), row.seq);
    let (stays, goes) = if rank(kept) < rank(other) { (kept, other) } else { (other, kept) };
    if goes.is_in_use {
        return apart(kept, other);
    }
    rows(connection, &stays.id, &goes.id)?;
    connection.execute("DELETE FROM bindings WHERE seq = ?1", [other.binding])?;
    connection
        .execute("UPDATE bindings SET session_id = ?2 WHERE seq = ?1", (kept.binding, &stays.id))?;
    drop_row(connection, &stays.id, &goes.id)?;
    // A user who deletes one of two rows of a transcript means the row.
    let trashed_at = stays.trashed_at.filter(|_| goes.trashed_at.is_some());
    let set = "UPDATE sessions SET trashed_at = ?2 WHERE id = ?1";
    connection.execute(set, (&stays.id, trashed_at))?;
    let data = json!({ "from": goes.id });
    events::append(connection, at, EventType::Merged, Some(&stays.id), &data)?;
    Ok(Merged::One)
}

/// Moves all that belongs to the session `goes` to the session `stays`, except its bindings.
pub(super) fn rows(connection: &Connection, stays: &str, goes: &str) -> Result<()> {
    let session = format!(
        "UPDATE sessions AS s SET {} FROM sessions o WHERE s.id = :stays AND o.id = :goes",
        columns::merge_assignments()
    );
    for sql in [
        &*session,
        "INSERT INTO tags (session_id, tag, session_seq, last_activity, created_at, expires_key)
         SELECT s.id, t.tag, s.seq, s.last_activity, s.created_at, s.expires_key
         FROM tags t JOIN sessions s ON s.id = :stays WHERE t.session_id = :goes
         ON CONFLICT DO NOTHING",
        "UPDATE keys SET session_id = :stays WHERE session_id = :goes",
        "UPDATE turns SET session_id = :stays WHERE session_id = :goes",
        "UPDATE sessions SET parent_id = :stays WHERE parent_id = :goes",
    ] {
        connection.execute(sql, named_params! { ":stays": stays, ":goes": goes })?;
    }
    Ok(())
}

/// Drops the row `goes`; its id becomes another one of `stays`.
pub(super) fn drop_row(connection: &Connection, stays: &str, goes: &str) -> Result<()> {
    for sql in [
        "UPDATE bindings SET session_id = :stays WHERE session_id = :goes AND current = 0",
        "UPDATE aliases SET session_id = :stays WHERE session_id = :goes",
        "DELETE FROM sessions WHERE id = :goes AND :stays <> :goes",
        "INSERT INTO aliases (id, session_id) VALUES (:goes, :stays) ON CONFLICT DO NOTHING",
    ] {
        connection.execute(sql, named_params! { ":stays": stays, ":goes": goes })?;
    }
    Ok(())
}
