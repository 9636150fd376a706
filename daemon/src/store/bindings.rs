//! Which provider session is a session's: homes, projects, bindings, and what discovery writes.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, OptionalExtension, named_params};
use sessd_proto::{Kind, Status, Timestamp};

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

/// What a sweep found of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// The id for a session that is new to the registry.
    pub id: String,
    /// The provider's id of the provider.
    pub provider: String,
    /// The home it is in.
    pub home_id: i64,
    /// What makes the provider's id unique in the home.
    pub scope: String,
    /// The provider's own id of the session.
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
    if is_buried(connection, found)? {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "SELECT session_id, current FROM bindings
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3",
    )?;
    let key = (found.home_id, &found.scope, &found.provider_session_id);
    let bound: Option<(String, bool)> =
        statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match bound {
        None => create(connection, found),
        Some((id, true)) => update(connection, &id, found),
        // An earlier binding of a session that has moved on.
        Some((_, false)) => Ok(()),
    }
}

fn is_buried(connection: &Connection, found: &Discovered) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM tombstones
         WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3",
    )?;
    Ok(statement.exists((found.home_id, &found.scope, &found.provider_session_id))?)
}

fn create(connection: &Connection, found: &Discovered) -> Result<()> {
    let project_id = project(connection, &found.project)?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO sessions (id, project_id, provider, agent, kind, launch_dir, cwd, title,
             model, git_branch, status, reason, created_at, last_activity, checked_at,
             expires_at, parent_id)
         VALUES (:id, :project_id, :provider, :provider, :kind, :launch_dir, :cwd, :title,
             :model, :git_branch, :status, :reason, :created_at, :last_activity, :at,
             :expires_at, :parent_id)",
    )?;
    statement.execute(named_params! {
        ":id": found.id, ":project_id": project_id, ":provider": found.provider,
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
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let Discovered { home_id, scope, provider_session_id, location, .. } = found;
    statement.execute((home_id, scope, provider_session_id, location, id))?;
    Ok(())
}

fn update(connection: &Connection, id: &str, found: &Discovered) -> Result<()> {
    let mut statement = connection
        .prepare_cached("SELECT status, launch_dir, project_id FROM sessions WHERE id = ?1")?;
    let (old_status, old_dir, old_project): (String, String, i64) =
        statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
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
             expires_at = :expires_at, parent_id = ifnull(:parent_id, parent_id),
             revision = revision + 1
         WHERE id = :id",
    )?;
    statement.execute(named_params! {
        ":id": id, ":project_id": project_id, ":kind": found.kind.as_str(),
        ":launch_dir": found.launch_dir, ":cwd": found.cwd, ":title": found.title,
        ":model": found.model, ":git_branch": found.git_branch,
        ":status": found.status.as_str(), ":reason": found.reason,
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
    if old_status == found.status.as_str() {
        return Ok(());
    }
    let data =
        serde_json::json!({ "from": old_status, "to": found.status, "reason": found.reason });
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
