//! Rows of `sessions` with what belongs to them: reading one, changing one.

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::de::DeserializeOwned;
use sessd_proto::{Json, Kind, Live, Session, Status, Timestamp};

use super::{Error, Result, indexes};

/// A session with the parts of its binding that are not shown to callers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The row's number.
    pub seq: i64,
    /// What callers see; `live` is not filled in.
    pub session: Session,
    /// The home of the current binding; 0 while there is none.
    pub home_id: i64,
    /// The scope of the current binding.
    pub scope: String,
    /// Where its transcript was last seen.
    pub location: String,
    /// What it asks its provider for, as JSON.
    pub launch: String,
}

impl Stored {
    /// True if no cleanup may touch it.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.session.pinned || !self.session.tags.is_empty()
    }

    /// True if its time to live is over.
    #[must_use]
    pub fn is_past_ttl(&self, at: Timestamp) -> bool {
        let ttl_ms = self.session.ttl_ms.filter(|_| !self.is_protected());
        is_past_ttl(self.session.last_activity, ttl_ms, at)
    }
}

/// True if a time to live after the last activity is over.
pub(super) fn is_past_ttl(last_activity: Timestamp, ttl_ms: Option<i64>, at: Timestamp) -> bool {
    ttl_ms.is_some_and(|ttl_ms| last_activity.plus_ms(ttl_ms) <= at)
}

const SELECT: &str = "
SELECT s.seq, s.id, s.provider, h.path AS home, b.provider_session_id, p.root AS project, s.agent,
    s.kind, s.launch_dir, s.cwd, ifnull(s.own_title, s.title), s.model, s.git_branch,
    s.status, s.reason,
    s.created_at, s.last_activity, s.checked_at, s.expires_at, s.ttl_ms, s.pinned, s.trashed_at,
    s.parent_id, s.revision, s.metadata, s.turns, s.tokens_in, s.tokens_out, s.cost_usd,
    (SELECT json_group_array(tag) FROM tags WHERE session_id = s.id) AS tags,
    (SELECT json_group_array(key) FROM keys WHERE session_id = s.id) AS keys,
    b.home_id, b.scope, b.location, s.launch
FROM sessions s
JOIN projects p ON p.id = s.project_id
LEFT JOIN bindings b ON b.session_id = s.id AND b.current = 1
LEFT JOIN homes h ON h.id = b.home_id
WHERE ";

/// The session with this row number.
///
/// # Errors
/// Those of SQLite.
pub fn by_seq(connection: &Connection, seq: i64) -> Result<Option<Stored>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} s.seq = ?1"))?;
    Ok(statement.query_row([seq], stored).optional()?)
}

/// The sessions with these row numbers, in their order; those that are gone are left out.
///
/// # Errors
/// Those of SQLite.
pub fn by_seqs(
    connection: &Connection,
    seqs: impl IntoIterator<Item = i64>,
) -> Result<Vec<Stored>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} s.seq = ?1"))?;
    let mut found = Vec::new();
    for seq in seqs {
        found.extend(statement.query_row([seq], stored).optional()?);
    }
    Ok(found)
}

/// The session with this id.
///
/// # Errors
/// Those of SQLite.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Stored>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} s.id = ?1"))?;
    Ok(statement.query_row([id], stored).optional()?)
}

/// The sessions of a home whose verdict was held back, because the home could not be trusted.
///
/// # Errors
/// Those of SQLite.
pub fn held_back(connection: &Connection, home_id: i64, reasons: &[&str]) -> Result<Vec<i64>> {
    let reasons = serde_json::to_string(reasons).map_err(|e| Error::Other(e.to_string()))?;
    let mut statement = connection.prepare_cached(
        "SELECT s.seq FROM sessions s
         JOIN bindings b ON b.session_id = s.id AND b.current = 1
         WHERE b.home_id = ?1 AND s.status = 'unknown'
           AND s.reason IN (SELECT value FROM json_each(?2))",
    )?;
    let rows = statement.query_map((home_id, reasons), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The sessions whose check is oldest.
///
/// # Errors
/// Those of SQLite.
pub fn oldest_checks(connection: &Connection, before: i64, limit: u32) -> Result<Vec<i64>> {
    let mut statement = indexes::prepare(
        connection,
        "SELECT seq FROM sessions INDEXED BY by_check
         WHERE trashed_at IS NULL AND ifnull(checked_at, 0) < ?1
         ORDER BY ifnull(checked_at, 0), seq LIMIT ?2",
    )?;
    let rows = statement.query_map((before, limit), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The outcome of a check, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The session's row.
    pub seq: i64,
    /// The revision the check was made against.
    pub revision: i64,
    /// What was found.
    pub status: Status,
    /// Why, when the status is not `active`.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What storing the outcome of a check did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The status is the one it had.
    Confirmed,
    /// The status was another one.
    Changed(Status),
    /// Nothing: the row is not of the revision that was checked.
    Raced,
}

/// Stores the outcome of a check, unless the row has changed since.
///
/// # Errors
/// Those of SQLite.
pub fn set_checked(connection: &Connection, checked: &Checked) -> Result<Outcome> {
    let Checked { seq, revision, status, reason, at } = checked;
    let mut statement = connection
        .prepare_cached("SELECT status, reason, revision FROM sessions WHERE seq = ?1")?;
    let present: Option<(String, Option<String>, i64)> =
        statement.query_row([seq], |row| row.try_into()).optional()?;
    let Some((old, old_reason, _)) = present.filter(|(.., current)| current == revision) else {
        return Ok(Outcome::Raced);
    };
    let changed = old != status.as_str() || old_reason != *reason;
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET status = :status, reason = :reason, checked_at = :at,
             status_since = iif(status = :status, status_since, :at),
             revision = revision + :changed
         WHERE seq = :seq",
    )?;
    statement.execute(named_params! {
        ":status": status.as_str(), ":reason": reason, ":at": at.0, ":changed": changed,
        ":seq": seq,
    })?;
    let old = Status::parse(&old).unwrap_or_default();
    Ok(if old == *status { Outcome::Confirmed } else { Outcome::Changed(old) })
}

/// How many sessions there are, trash included.
///
/// # Errors
/// Those of SQLite.
pub fn count(connection: &Connection) -> Result<i64> {
    Ok(connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?)
}

/// True if there is a session.
///
/// # Errors
/// Those of SQLite.
pub(super) fn is_any(connection: &Connection) -> Result<bool> {
    let any = "SELECT EXISTS (SELECT 1 FROM sessions)";
    Ok(connection.query_row(any, [], |row| row.get(0))?)
}

/// How many sessions each provider has, trash included.
///
/// # Errors
/// Those of SQLite.
pub fn count_by_provider(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let mut statement =
        connection.prepare_cached("SELECT provider, count(*) FROM sessions GROUP BY provider")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reads columns in the order of [`SELECT`]: by name, each would be searched among all.
struct Columns<'a> {
    row: &'a Row<'a>,
    at: usize,
}

impl Columns<'_> {
    fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.at += 1;
        self.row.get(self.at - 1)
    }

    fn moment(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.next::<Option<_>>()?.map(Timestamp))
    }

    /// A value that the schema allows only in one spelling.
    fn spelled<T: Default>(&mut self, parse: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        self.at += 1;
        Ok(parse(self.row.get_ref(self.at - 1)?.as_str()?).unwrap_or_default())
    }

    fn json<T: Default + DeserializeOwned>(&mut self) -> rusqlite::Result<T> {
        self.spelled(|text| serde_json::from_str(text).ok())
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let mut columns = Columns { row, at: 0 };
    let c = &mut columns;
    Ok(Stored {
        seq: c.next()?,
        session: Session {
            id: c.next()?,
            provider: c.next()?,
            home: c.next::<Option<_>>()?.unwrap_or_default(),
            provider_session_id: c.next()?,
            project: c.next()?,
            agent: c.next()?,
            kind: c.spelled(Kind::parse)?,
            launch_dir: c.next()?,
            cwd: c.next()?,
            title: c.next()?,
            model: c.next()?,
            git_branch: c.next()?,
            status: c.spelled(Status::parse)?,
            reason: c.next()?,
            created_at: Timestamp(c.next()?),
            last_activity: Timestamp(c.next()?),
            checked_at: c.moment()?,
            expires_at: c.moment()?,
            ttl_ms: c.next()?,
            pinned: c.next()?,
            trashed_at: c.moment()?,
            parent_id: c.next()?,
            revision: c.next()?,
            metadata: Json(c.json()?),
            turns: c.next()?,
            tokens_in: c.next()?,
            tokens_out: c.next()?,
            cost_usd: c.next()?,
            tags: c.json()?,
            keys: c.json()?,
            live: Live::default(),
        },
        home_id: c.next::<Option<_>>()?.unwrap_or_default(),
        scope: c.next::<Option<_>>()?.unwrap_or_default(),
        location: c.next::<Option<_>>()?.unwrap_or_default(),
        launch: c.next()?,
    })
}
