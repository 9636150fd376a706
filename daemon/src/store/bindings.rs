//! Which provider session is a session's: homes, projects, bindings, and what discovery writes.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension, named_params};
use sessd_proto::{Kind, Status, Timestamp};

use super::sessions::{Stored, is_past_ttl};
use super::{Error, Result, events, trash};

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

/// What a sweep found of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// The id for a session that is new to the registry.
    pub id: String,
    /// The provider's id of the provider.
    pub provider: String,
    /// Who was asked to begin it; the provider itself when empty.
    pub agent: String,
    /// What that agent asks its provider for, as JSON; nothing when empty.
    pub launch: String,
    /// The home it is in.
    pub home_id: i64,
    /// What makes the provider's id unique in the home.
    pub scope: String,
    /// The provider's own id of the session; empty while it is not known.
    pub provider_session_id: String,
    /// Where its transcript is.
    pub location: String,
    /// Root path of its project.
    pub project: String,
    /// Who talks in it.
    pub kind: Kind,
    /// Where the provider must be started for it.
    pub launch_dir: String,
    /// Where it last worked.
    pub cwd: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// The git branch it last worked on.
    pub git_branch: Option<String>,
    /// Whether it can be resumed.
    pub status: Status,
    /// Why, when the status is not `active`.
    pub reason: Option<String>,
    /// Its first record.
    pub created_at: Timestamp,
    /// Its last record.
    pub last_activity: Timestamp,
    /// When the provider will delete it.
    pub expires_at: Option<Timestamp>,
    /// Our id of the session it was forked from.
    pub parent_id: Option<String>,
    /// When it was read.
    pub at: Timestamp,
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

/// Writes what a sweep found: a new session, or what changed in a known one.
///
/// # Errors
/// Those of SQLite.
pub fn absorb(connection: &Connection, found: &Discovered) -> Result<()> {
    let key = (found.home_id, &*found.scope, &*found.provider_session_id);
    if let Some(stone) = trash::tombstone(connection, key)? {
        if found.last_activity <= stone.at {
            return trash::move_tombstone(connection, &stone, &found.location);
        }
        // Somebody went on with it: it matters again, and is who it was.
        trash::unbury(connection, &stone.session_id)?;
        return create(connection, &Discovered { id: stone.session_id, ..found.clone() });
    }
    match known(connection, key)? {
        None => create(connection, found),
        Some(Known { id, is_current: true }) => update(connection, &id, found),
        // An earlier binding of a session that has moved on.
        Some(Known { is_current: false, .. }) => Ok(()),
    }
}

/// A session that has a provider's id, or had it.
struct Known {
    id: String,
    is_current: bool,
}

/// Who has this id: somebody who was found before, or a session that was registered with it
/// before its provider gave it a scope. Most of what is absorbed is new, so both are asked for
/// at once, and nothing is changed but what was found.
fn known(connection: &Connection, key: (i64, &str, &str)) -> Result<Option<Known>> {
    let mut statement = connection.prepare_cached(
        "SELECT session_id, current, 0 AS registered FROM bindings
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3
         UNION ALL
         SELECT session_id, current, 1 FROM bindings
         WHERE home_id = ?1 AND scope = '' AND provider_session_id = ?3 AND location = ''",
    )?;
    let first = statement
        .query_row(key, |row| Ok((Known { id: row.get(0)?, is_current: row.get(1)? }, row.get(2)?)))
        .optional()?;
    let Some((known, is_registered)) = first else { return Ok(None) };
    if is_registered {
        let mut statement = connection.prepare_cached(
            "UPDATE bindings SET scope = ?2
             WHERE home_id = ?1 AND scope = '' AND provider_session_id = ?3",
        )?;
        statement.execute(key)?;
    }
    Ok(Some(known))
}

fn create(connection: &Connection, found: &Discovered) -> Result<()> {
    let project_id = project(connection, &found.project)?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO sessions (id, project_id, provider, agent, kind, launch_dir, cwd, title,
             model, git_branch, status, reason, created_at, last_activity, checked_at,
             status_since, expires_at, parent_id, launch)
         VALUES (:id, :project_id, :provider, ifnull(nullif(:agent, ''), :provider), :kind,
             :launch_dir, :cwd, :title, :model, :git_branch, :status, :reason, :created_at,
             :last_activity, :at, :at, :expires_at, :parent_id, ifnull(nullif(:launch, ''), '[]'))",
    )?;
    statement.execute(named_params! {
        ":id": found.id, ":project_id": project_id, ":provider": found.provider,
        ":agent": found.agent, ":launch": found.launch,
        ":kind": found.kind.as_str(), ":launch_dir": found.launch_dir, ":cwd": found.cwd,
        ":title": found.title, ":model": found.model, ":git_branch": found.git_branch,
        ":status": found.status.as_str(), ":reason": found.reason,
        ":created_at": found.created_at.0, ":last_activity": found.last_activity.0,
        ":at": found.at.0, ":expires_at": found.expires_at.map(|at| at.0),
        ":parent_id": found.parent_id,
    })?;
    bind(connection, &found.id, found)?;
    events::append(connection, found.at, "discovered", Some(&found.id), &serde_json::json!({}))
}

fn bind(connection: &Connection, id: &str, found: &Discovered) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO bindings (home_id, scope, provider_session_id, location, session_id)
         VALUES (?1, ?2, nullif(?3, ''), ?4, ?5)",
    )?;
    let Discovered { home_id, scope, provider_session_id, location, .. } = found;
    statement.execute((home_id, scope, provider_session_id, location, id))?;
    Ok(())
}

fn update(connection: &Connection, id: &str, found: &Discovered) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT status, launch_dir, project_id, trashed_at,
                 iif(pinned OR EXISTS (SELECT 1 FROM tags WHERE session_id = s.id), NULL, ttl_ms)
             FROM sessions s WHERE id = ?1",
    )?;
    type Old = (String, String, i64, Option<i64>, Option<i64>);
    let (old_status, old_dir, old_project, trashed_at, ttl_ms): Old =
        statement.query_row([id], |row| row.try_into())?;
    let (status, reason) = if is_past_ttl(found.last_activity, ttl_ms, found.at) {
        (Status::Expired, Some("ttl"))
    } else {
        (found.status, found.reason.as_deref())
    };
    // Somebody went on with it: it matters again.
    let comes_back = trashed_at.is_some_and(|at| found.last_activity.0 > at);
    // A directory that vanished with its repository still belongs to the project it was in.
    let project_id = if old_dir == found.launch_dir && found.project == found.launch_dir {
        old_project
    } else {
        project(connection, &found.project)?
    };
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET project_id = :project_id, kind = :kind, launch_dir = :launch_dir,
             cwd = ifnull(:cwd, cwd), title = ifnull(:title, title), model = ifnull(:model, model),
             git_branch = ifnull(:git_branch, git_branch), status = :status, reason = :reason,
             created_at = :created_at, last_activity = :last_activity, checked_at = :at,
             expires_at = :expires_at, parent_id = ifnull(parent_id, :parent_id),
             trashed_at = iif(:comes_back, NULL, trashed_at),
             status_since = iif(status = :status, status_since, :at), revision = revision + 1
         WHERE id = :id",
    )?;
    statement.execute(named_params! {
        ":id": id, ":project_id": project_id, ":kind": found.kind.as_str(),
        ":launch_dir": found.launch_dir, ":cwd": found.cwd, ":title": found.title,
        ":model": found.model, ":git_branch": found.git_branch,
        ":status": status.as_str(), ":reason": reason, ":comes_back": comes_back,
        ":created_at": found.created_at.0, ":last_activity": found.last_activity.0,
        ":at": found.at.0, ":expires_at": found.expires_at.map(|at| at.0),
        ":parent_id": found.parent_id,
    })?;
    let mut statement = connection.prepare_cached(
        "UPDATE bindings SET location = ?1
         WHERE home_id = ?2 AND scope = ?3 AND provider_session_id = ?4",
    )?;
    let Discovered { home_id, scope, provider_session_id, location, .. } = found;
    statement.execute((location, home_id, scope, provider_session_id))?;
    if comes_back {
        let data = serde_json::json!({ "reason": "activity" });
        events::append(connection, found.at, "undeleted", Some(id), &data)?;
    }
    if old_status == status.as_str() {
        return Ok(());
    }
    let data = serde_json::json!({ "from": old_status, "to": status, "reason": reason });
    events::append(connection, found.at, "status_changed", Some(id), &data)
}

fn project(connection: &Connection, root: &str) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT id FROM projects WHERE root = ?1")?;
    if let Some(id) = statement.query_row([root], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut statement = connection.prepare_cached("INSERT INTO projects (root) VALUES (?1)")?;
    Ok(statement.insert([root])?)
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

/// Gives a session that waited for it the provider's id. What a sweep has found under that id a
/// moment ago becomes part of it, with everything that was done to it meanwhile.
///
/// # Errors
/// Those of SQLite.
pub fn bind_now(
    connection: &Connection,
    waiting: &Stored,
    found_as: Option<&str>,
    provider_session_id: &str,
    at: Timestamp,
) -> Result<()> {
    let id = &waiting.session.id;
    if let Some(found_as) = found_as {
        take_over(connection, id, found_as)?;
    }
    connection.execute(
        "UPDATE bindings SET provider_session_id = ?2 WHERE session_id = ?1 AND current = 1",
        (id, provider_session_id),
    )?;
    let data = serde_json::json!({ "provider_session_id": provider_session_id });
    events::append(connection, at, "bound", Some(id), &data)
}

/// Makes one session of two that are the same.
fn take_over(connection: &Connection, id: &str, found_as: &str) -> Result<()> {
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
