//! Rows of `sessions` together with their project, home and binding: reading and updating them.
//! Knows no provider.

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::de::DeserializeOwned;
use sessd_proto::{Json, Kind, Live, Reason, Session, Status, Timestamp};

use super::{Error, Result, indexes};

/// A session, and the parts of its row and binding that are not shown to callers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The row number.
    pub seq: i64,
    /// The session as callers see it, without its `live` state.
    pub session: Session,
    /// The row number of its home; 0 while there is no binding.
    pub home_id: i64,
    /// The scope of the current binding.
    pub scope: String,
    /// The last known location of its transcript.
    pub location: String,
    /// Its launch options, as JSON.
    pub launch: String,
}

impl Stored {
    /// True if it is pinned or tagged, so that no cleanup may touch it.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.session.pinned || !self.session.tags.is_empty()
    }

    /// True if its TTL has passed.
    #[must_use]
    pub fn is_past_ttl(&self, at: Timestamp) -> bool {
        let ttl_ms = self.session.ttl_ms.filter(|_| !self.is_protected());
        is_past_ttl(self.session.last_activity, ttl_ms, at)
    }
}

/// True if a TTL after the last activity has passed.
pub(super) fn is_past_ttl(last_activity: Timestamp, ttl_ms: Option<i64>, at: Timestamp) -> bool {
    ttl_ms.is_some_and(|ttl_ms| last_activity.plus_ms(ttl_ms) <= at)
}

/// Makes the list of a SELECT and the positions of its columns from one list, so that they cannot
/// disagree: a position costs nothing at run time, where a name is searched for in every row.
macro_rules! select {
    ($first:ident: $first_sql:literal, $($name:ident: $sql:literal,)*) => {
        #[derive(Clone, Copy)]
        enum Column {
            $first,
            $($name,)*
        }

        const COLUMNS: &str = concat!($first_sql, $(", ", $sql,)*);
    };
}

select! {
    Seq: "s.seq",
    Id: "s.id",
    Provider: "s.provider",
    Home: "h.path",
    ProviderSessionId: "b.provider_session_id",
    Project: "p.root",
    Agent: "s.agent",
    Kind: "s.kind",
    LaunchDir: "s.launch_dir",
    Cwd: "s.cwd",
    Title: "ifnull(s.own_title, s.title)",
    LastPrompt: "s.last_prompt",
    Model: "s.model",
    GitBranch: "s.git_branch",
    Status: "s.status",
    Reason: "s.reason",
    CreatedAt: "s.created_at",
    LastActivity: "s.last_activity",
    CheckedAt: "s.checked_at",
    ExpiresAt: "s.expires_at",
    TtlMs: "s.ttl_ms",
    Pinned: "s.pinned",
    TrashedAt: "s.trashed_at",
    ParentId: "s.parent_id",
    Revision: "s.revision",
    Metadata: "s.metadata",
    Turns: "s.turns",
    TokensIn: "s.tokens_in",
    TokensOut: "s.tokens_out",
    CostUsd: "s.cost_usd",
    Tags: "(SELECT json_group_array(tag) FROM tags WHERE session_id = s.id)",
    Keys: "(SELECT json_group_array(key) FROM keys WHERE session_id = s.id)",
    HomeId: "b.home_id",
    Scope: "b.scope",
    Location: "b.location",
    Launch: "s.launch",
}

/// The query for sessions that meet a condition.
fn select_where(condition: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM sessions s
         JOIN projects p ON p.id = s.project_id
         LEFT JOIN bindings b ON b.session_id = s.id AND b.current = 1
         LEFT JOIN homes h ON h.id = b.home_id
         WHERE {condition}"
    )
}

/// Returns the session with this row number.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn by_seq(connection: &Connection, seq: i64) -> Result<Option<Stored>> {
    let mut statement = connection.prepare_cached(&select_where("s.seq = ?1"))?;
    Ok(statement.query_row([seq], stored).optional()?)
}

/// Returns the sessions with these row numbers, in this order, without those that are gone.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn by_seqs(
    connection: &Connection,
    seqs: impl IntoIterator<Item = i64>,
) -> Result<Vec<Stored>> {
    let mut statement = connection.prepare_cached(&select_where("s.seq = ?1"))?;
    let mut found = Vec::new();
    for seq in seqs {
        found.extend(statement.query_row([seq], stored).optional()?);
    }
    Ok(found)
}

/// Returns the session with this id.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Stored>> {
    let mut statement = connection.prepare_cached(&select_where("s.id = ?1"))?;
    Ok(statement.query_row([id], stored).optional()?)
}

/// Returns the sessions of a home that are `unknown` for one of these reasons.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn held_back(connection: &Connection, home_id: i64, reasons: &[Reason]) -> Result<Vec<i64>> {
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

/// Returns the first sessions that have this reason.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn with_reason(connection: &Connection, reason: Reason, limit: usize) -> Result<Vec<Stored>> {
    let condition = format!("s.reason = ?1 ORDER BY s.seq LIMIT {limit}");
    let mut statement = connection.prepare_cached(&select_where(&condition))?;
    let rows = statement.query_map([reason.as_str()], stored)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the sessions that were checked longest ago, before a time in milliseconds.
///
/// # Errors
/// Fails if the registry cannot be read.
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

/// The verdict of a check, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The row number of the session.
    pub seq: i64,
    /// The revision that was checked.
    pub revision: i64,
    /// The status found.
    pub status: Status,
    /// The reason, if the status is not `active`.
    pub reason: Option<Reason>,
    /// The time of the check.
    pub at: Timestamp,
}

/// The effect of storing a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The status is the same as before.
    Confirmed,
    /// The status has changed from this one.
    Changed(Status),
    /// Nothing was stored, because the row has changed since the check.
    Raced,
}

/// Stores the verdict of a check, unless the row has changed since.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set_checked(connection: &Connection, checked: &Checked) -> Result<Outcome> {
    let Checked { seq, revision, status, reason, at } = checked;
    let mut statement = connection
        .prepare_cached("SELECT status, reason, revision FROM sessions WHERE seq = ?1")?;
    let present = statement.query_row([seq], |row| {
        let (status, reason) = (row.get("status")?, row.get("reason")?);
        Ok::<(String, Option<String>, i64), _>((status, reason, row.get("revision")?))
    });
    let present = present.optional()?;
    let Some((old, old_reason, _)) = present.filter(|(.., current)| current == revision) else {
        return Ok(Outcome::Raced);
    };
    let changed = old != status.as_str() || old_reason.as_deref() != reason.map(Reason::as_str);
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET status = :status, reason = :reason, checked_at = :at,
             status_since = iif(status = :status, status_since, :at),
             revision = revision + :changed
         WHERE seq = :seq",
    )?;
    statement.execute(named_params! {
        ":status": status.as_str(), ":reason": reason.map(Reason::as_str), ":at": at.0,
        ":changed": changed, ":seq": seq,
    })?;
    let old = Status::parse(&old).unwrap_or_default();
    Ok(if old == *status { Outcome::Confirmed } else { Outcome::Changed(old) })
}

/// Returns the launch directories of all sessions.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn launch_dirs(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT launch_dir FROM sessions WHERE launch_dir <> ''")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Stores the launch directory of a session and its project, unless the row has changed since.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set_launch_dir(
    connection: &Connection,
    seq: i64,
    revision: i64,
    launch_dir: &str,
    project: &str,
) -> Result<()> {
    let insert = "INSERT INTO projects (root) VALUES (?1) ON CONFLICT DO NOTHING";
    connection.prepare_cached(insert)?.execute([project])?;
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET launch_dir = :dir, cwd = ifnull(cwd, :dir), revision = revision + 1,
             project_id = (SELECT id FROM projects WHERE root = :project)
         WHERE seq = :seq AND revision = :revision",
    )?;
    statement.execute(named_params! {
        ":dir": launch_dir, ":project": project, ":seq": seq, ":revision": revision,
    })?;
    Ok(())
}

/// Returns the number of sessions, including the trash.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn count(connection: &Connection) -> Result<i64> {
    Ok(connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?)
}

/// True if there is any session.
///
/// # Errors
/// Fails if the registry cannot be read.
pub(super) fn is_any(connection: &Connection) -> Result<bool> {
    let any = "SELECT EXISTS (SELECT 1 FROM sessions)";
    Ok(connection.query_row(any, [], |row| row.get(0))?)
}

/// Returns the number of sessions per provider, including the trash.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn count_by_provider(connection: &Connection) -> Result<Vec<(String, i64)>> {
    let mut statement =
        connection.prepare_cached("SELECT provider, count(*) FROM sessions GROUP BY provider")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn get<T: FromSql>(row: &Row<'_>, column: Column) -> rusqlite::Result<T> {
    row.get(column as usize)
}

fn moment(row: &Row<'_>, column: Column) -> rusqlite::Result<Option<Timestamp>> {
    Ok(get::<Option<_>>(row, column)?.map(Timestamp))
}

/// Reads text that only we write; what a later version may have written reads as the default.
fn parsed<T: Default>(
    row: &Row<'_>,
    column: Column,
    parse: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    Ok(parse(row.get_ref(column as usize)?.as_str()?).unwrap_or_default())
}

fn json<T: Default + DeserializeOwned>(row: &Row<'_>, column: Column) -> rusqlite::Result<T> {
    parsed(row, column, |text| serde_json::from_str(text).ok())
}

/// The value of a column that is missing while there is no binding.
fn bound<T: Default + FromSql>(row: &Row<'_>, column: Column) -> rusqlite::Result<T> {
    Ok(get::<Option<_>>(row, column)?.unwrap_or_default())
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    use Column as C;
    Ok(Stored {
        seq: get(row, C::Seq)?,
        session: Session {
            id: get(row, C::Id)?,
            provider: get(row, C::Provider)?,
            home: bound(row, C::Home)?,
            provider_session_id: get(row, C::ProviderSessionId)?,
            project: get(row, C::Project)?,
            agent: get(row, C::Agent)?,
            kind: parsed(row, C::Kind, Kind::parse)?,
            launch_dir: get(row, C::LaunchDir)?,
            cwd: get(row, C::Cwd)?,
            title: get(row, C::Title)?,
            last_prompt: get(row, C::LastPrompt)?,
            model: get(row, C::Model)?,
            git_branch: get(row, C::GitBranch)?,
            status: parsed(row, C::Status, Status::parse)?,
            reason: get::<Option<String>>(row, C::Reason)?.as_deref().map(Reason::of_stored),
            created_at: Timestamp(get(row, C::CreatedAt)?),
            last_activity: Timestamp(get(row, C::LastActivity)?),
            checked_at: moment(row, C::CheckedAt)?,
            expires_at: moment(row, C::ExpiresAt)?,
            ttl_ms: get(row, C::TtlMs)?,
            pinned: get(row, C::Pinned)?,
            trashed_at: moment(row, C::TrashedAt)?,
            parent_id: get(row, C::ParentId)?,
            revision: get(row, C::Revision)?,
            metadata: Json(json(row, C::Metadata)?),
            turns: get(row, C::Turns)?,
            tokens_in: get(row, C::TokensIn)?,
            tokens_out: get(row, C::TokensOut)?,
            cost_usd: get(row, C::CostUsd)?,
            tags: json(row, C::Tags)?,
            keys: json(row, C::Keys)?,
            live: Live::default(),
        },
        home_id: bound(row, C::HomeId)?,
        scope: bound(row, C::Scope)?,
        location: bound(row, C::Location)?,
        launch: get(row, C::Launch)?,
    })
}
