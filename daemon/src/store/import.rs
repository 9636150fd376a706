//! What discovery writes: new sessions, and what changed in known ones.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params, params};
use sessd_proto::{Kind, Status, Timestamp};

use super::sessions::is_past_ttl;
use super::{Result, events, trash};

/// What a sweep found of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundSession {
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

/// What every session asks for.
struct Statements<'a> {
    find: CachedStatement<'a>,
    create: CachedStatement<'a>,
    bind: CachedStatement<'a>,
}

const FIND: &str = "SELECT session_id, current FROM bindings
    WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3";

const CREATE: &str = "INSERT INTO sessions
        (id, project_id, provider, agent, launch, kind, launch_dir, cwd, title, model, git_branch,
         status, reason, created_at, last_activity, expires_at, parent_id, checked_at,
         status_since)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18)";

const BIND: &str = "INSERT INTO bindings
        (home_id, scope, provider_session_id, location, session_id)
    VALUES (?1, ?2, ?3, ?4, ?5)";

/// Writes what a sweep found of one session; see [`Import`].
///
/// # Errors
/// Those of SQLite.
pub fn upsert(connection: &Connection, found: &FoundSession) -> Result<()> {
    let mut import = Import::begin(connection)?;
    import.upsert(found)?;
    import.finish()
}

/// Sessions that come in together, within one transaction: what is the same for all of them is
/// asked and written once.
pub struct Import<'a> {
    connection: &'a Connection,
    statements: Statements<'a>,
    /// Those that were met, by their roots.
    projects: HashMap<String, i64>,
    /// Whether a home has sessions that were registered before their provider gave them a scope.
    registered: HashMap<i64, bool>,
    has_tombstones: bool,
    /// The row of the newest session before.
    last: i64,
}

impl<'a> Import<'a> {
    /// Begins, in a transaction of the caller's.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn begin(connection: &'a Connection) -> Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT (SELECT ifnull(max(seq), 0) FROM sessions),
                 EXISTS (SELECT 1 FROM tombstones)",
        )?;
        let (last, has_tombstones) = statement.query_row([], |row| row.try_into())?;
        let (projects, registered) = (HashMap::new(), HashMap::new());
        let statements = Statements {
            find: connection.prepare_cached(FIND)?,
            create: connection.prepare_cached(CREATE)?,
            bind: connection.prepare_cached(BIND)?,
        };
        Ok(Self { connection, statements, projects, registered, has_tombstones, last })
    }

    /// Writes what a sweep found: a new session, or what changed in a known one.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn upsert(&mut self, found: &FoundSession) -> Result<()> {
        let connection = self.connection;
        let key = (found.home_id, &*found.scope, &*found.provider_session_id);
        if self.has_tombstones
            && let Some(stone) = trash::tombstone(connection, key)?
        {
            if found.last_activity <= stone.at {
                return trash::move_tombstone(connection, &stone, &found.location);
            }
            // Somebody went on with it: it matters again, and is who it was.
            trash::remove_tombstones(connection, &stone.session_id)?;
            return self.create(&FoundSession { id: stone.session_id, ..found.clone() });
        }
        match self.known(key)? {
            None => self.create(found),
            Some(Known { id, is_current: true }) => self.update(&id, found),
            // An earlier binding of a session that has moved on.
            Some(Known { is_current: false, .. }) => Ok(()),
        }
    }

    /// Who has this id: somebody who was found before, or a session that was registered with it
    /// before its provider gave it a scope.
    fn known(&mut self, key: Key<'_>) -> Result<Option<Known>> {
        let known = |row: &Row<'_>| Ok(Known { id: row.get(0)?, is_current: row.get(1)? });
        let found = self.statements.find.query_row(key, known).optional()?;
        // Where there are no scopes, they were among those.
        if found.is_some() || key.1.is_empty() || !self.has_registered(key.0)? {
            return Ok(found);
        }
        let mut statement = self.connection.prepare_cached(
            "UPDATE bindings SET scope = ?2
             WHERE home_id = ?1 AND scope = '' AND provider_session_id = ?3 AND location = ''
             RETURNING session_id, current",
        )?;
        Ok(statement.query_row(key, known).optional()?)
    }

    fn has_registered(&mut self, home_id: i64) -> Result<bool> {
        if let Some(has) = self.registered.get(&home_id) {
            return Ok(*has);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM bindings
                 WHERE home_id = ?1 AND scope = '' AND location = '')",
        )?;
        let has = statement.query_row([home_id], |row| row.get(0))?;
        self.registered.insert(home_id, has);
        Ok(has)
    }

    fn create(&mut self, found: &FoundSession) -> Result<()> {
        let project_id = self.project(&found.project)?;
        let agent = unless_empty(&found.agent).unwrap_or(&found.provider);
        self.statements.create.execute(params![
            found.id,
            project_id,
            found.provider,
            agent,
            unless_empty(&found.launch).unwrap_or("[]"),
            found.kind.as_str(),
            found.launch_dir,
            found.cwd,
            found.title,
            found.model,
            found.git_branch,
            found.status.as_str(),
            found.reason,
            found.created_at.0,
            found.last_activity.0,
            found.expires_at.map(|at| at.0),
            found.parent_id,
            found.at.0,
        ])?;
        let FoundSession { home_id, scope, provider_session_id, location, id, .. } = found;
        let provider_session_id = unless_empty(provider_session_id);
        self.statements.bind.execute((home_id, scope, provider_session_id, location, id))?;
        Ok(())
    }

    fn update(&mut self, id: &str, found: &FoundSession) -> Result<()> {
        let connection = self.connection;
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
            self.project(&found.project)?
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
        let FoundSession { home_id, scope, provider_session_id, location, .. } = found;
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

    fn project(&mut self, root: &str) -> Result<i64> {
        if let Some(id) = self.projects.get(root) {
            return Ok(*id);
        }
        let mut statement =
            self.connection.prepare_cached("SELECT id FROM projects WHERE root = ?1")?;
        let known = statement.query_row([root], |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                let insert = "INSERT INTO projects (root) VALUES (?1)";
                self.connection.prepare_cached(insert)?.insert([root])?
            }
        };
        self.projects.insert(root.to_owned(), id);
        Ok(id)
    }

    /// Ends with the events of those that are new.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn finish(self) -> Result<()> {
        events::append_discovered(self.connection, self.last)
    }
}

/// What a provider's id of a session is unique with: home, scope, id.
type Key<'a> = (i64, &'a str, &'a str);

/// A session that has a provider's id, or had it.
struct Known {
    id: String,
    is_current: bool,
}

fn unless_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
