//! Writes discovered sessions: inserts new ones and updates known ones. Knows no provider.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params, params};
use sessd_proto::{EventType, Facts, Reason, Status, Timestamp, TrashReason};

use super::merge::Name;
use super::sessions::is_past_ttl;
use super::{Result, events, moved, trash};

/// One session as a sweep has found it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundSession {
    /// The id for a session that is new to the registry.
    pub id: String,
    /// The id of its provider.
    pub provider: String,
    /// The agent it was created for; empty means the provider itself.
    pub agent: String,
    /// The launch options of that agent, as JSON; empty means none.
    pub launch: String,
    /// The row number of its home.
    pub home_id: i64,
    /// The facts that its transcript states.
    pub facts: Facts,
    /// The location of its transcript.
    pub location: String,
    /// The root path of its project.
    pub project: String,
    /// The verdict of the check.
    pub status: Status,
    /// The reason, if the status is not `active`.
    pub reason: Option<Reason>,
    /// The predicted time of its deletion by the provider.
    pub expires_at: Option<Timestamp>,
    /// The scope that it had before its provider moved it to another.
    pub earlier_scope: Option<String>,
    /// Our id of the session it was forked from, if that was found under its own name.
    pub parent_id: Option<String>,
    /// The provider's id of the session it was forked from.
    pub parent: Option<String>,
    /// The name that its transcript had before it moved.
    pub moved_from: Option<Name>,
    /// The time at which it was read.
    pub at: Timestamp,
}

/// The statements that run for every session.
struct Statements<'a> {
    find: CachedStatement<'a>,
    create: CachedStatement<'a>,
    bind: CachedStatement<'a>,
}

const FIND: &str = "SELECT session_id, current FROM bindings
    WHERE home_id = ?1 AND scope = ?2 AND provider_session_id = ?3";

const CREATE: &str = "INSERT INTO sessions
        (id, project_id, provider, agent, launch, kind, launch_dir, cwd, title, model, git_branch,
         status, reason, created_at, last_activity, expires_at, parent_id, last_prompt,
         checked_at, status_since)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
         ?19)";

const BIND: &str = "INSERT INTO bindings
        (home_id, scope, provider_session_id, location, session_id)
    VALUES (?1, ?2, ?3, ?4, ?5)";

/// Inserts or updates one session; see [`Import`] for many.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn upsert(connection: &Connection, found: &FoundSession) -> Result<()> {
    let mut import = Import::begin(connection)?;
    import.upsert(found)?;
    import.finish()
}

/// Imports many sessions within one transaction, and looks up and writes only once what they have
/// in common.
pub struct Import<'a> {
    connection: &'a Connection,
    statements: Statements<'a>,
    /// Row numbers of projects by root path.
    projects: HashMap<String, i64>,
    /// For each home, true if it has sessions that were registered before their scope was known.
    registered: HashMap<i64, bool>,
    has_tombstones: bool,
    /// The newest row before this import.
    last: i64,
    /// Sessions that are predicted to expire before this time are announced.
    announced: Option<Timestamp>,
}

impl<'a> Import<'a> {
    /// Starts an import within the transaction of the caller.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub fn begin(connection: &'a Connection) -> Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT (SELECT ifnull(max(seq), 0) FROM sessions) AS last,
                 EXISTS (SELECT 1 FROM tombstones) AS has_tombstones",
        )?;
        let (last, has_tombstones) =
            statement.query_row([], |row| Ok((row.get("last")?, row.get("has_tombstones")?)))?;
        let (projects, registered) = (HashMap::new(), HashMap::new());
        let statements = Statements {
            find: connection.prepare_cached(FIND)?,
            create: connection.prepare_cached(CREATE)?,
            bind: connection.prepare_cached(BIND)?,
        };
        let announced = None;
        Ok(Self { connection, statements, projects, registered, has_tombstones, last, announced })
    }

    /// Announces every session that is found to expire before this time and was not known to.
    #[must_use]
    pub fn announcing(self, before: Timestamp) -> Self {
        Self { announced: Some(before), ..self }
    }

    /// Inserts a session that is new, or updates a known one.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub fn upsert(&mut self, found: &FoundSession) -> Result<()> {
        let connection = self.connection;
        let key = (found.home_id, &*found.facts.scope, &*found.facts.provider_session_id);
        if self.has_tombstones
            && let Some(stone) = trash::tombstone(connection, key)?
        {
            if found.facts.last_activity <= stone.at {
                return trash::move_tombstone(connection, &stone, &found.location);
            }
            // It was continued after the purge, so it comes back under its old id.
            trash::remove_tombstones(connection, &stone.session_id)?;
            return self.create(&FoundSession { id: stone.session_id, ..found.clone() });
        }
        if let Some(name) = &found.moved_from {
            moved::follow(connection, name, found)?;
        }
        let known = match (self.known(key)?, &found.earlier_scope) {
            (None, Some(earlier)) => moved::change_scope(connection, key, earlier)?,
            (known, _) => known,
        };
        match known {
            None => self.create(found),
            Some(Known { id, is_current: true }) => self.update(&id, found),
            // An earlier binding of a session that is bound to another id now.
            Some(Known { is_current: false, .. }) => Ok(()),
        }
    }

    /// Returns the session with this provider's id: one that was found before, or one that was
    /// registered before its scope was known.
    fn known(&mut self, key: Key<'_>) -> Result<Option<Known>> {
        let known = |row: &Row<'_>| {
            Ok(Known { id: row.get("session_id")?, is_current: row.get("current")? })
        };
        let found = self.statements.find.query_row(key, known).optional()?;
        // Without a scope, registered sessions were part of the first lookup.
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
        let id = moved::free_id(self.connection, &found.id)?;
        let parent_id = moved::parent_id(self.connection, found)?;
        let agent = unless_empty(&found.agent).unwrap_or(&found.provider);
        self.statements.create.execute(params![
            id,
            project_id,
            found.provider,
            agent,
            unless_empty(&found.launch).unwrap_or("[]"),
            found.facts.kind.as_str(),
            found.facts.launch_dir,
            found.facts.cwd,
            found.facts.title,
            found.facts.model,
            found.facts.git_branch,
            found.status.as_str(),
            found.reason.map(Reason::as_str),
            found.facts.created_at.0,
            found.facts.last_activity.0,
            found.expires_at.map(|at| at.0),
            parent_id,
            found.facts.last_prompt,
            found.at.0,
        ])?;
        let FoundSession { home_id, location, .. } = found;
        let Facts { scope, provider_session_id, .. } = &found.facts;
        let provider_session_id = unless_empty(provider_session_id);
        self.statements.bind.execute((home_id, scope, provider_session_id, location, id))?;
        Ok(())
    }

    fn update(&mut self, id: &str, found: &FoundSession) -> Result<()> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(
            "SELECT status, launch_dir, project_id, trashed_at, expires_at,
                 iif(pinned OR EXISTS (SELECT 1 FROM tags WHERE session_id = s.id), NULL, ttl_ms)
                     AS ttl_in_force
             FROM sessions s WHERE id = ?1",
        )?;
        let old = statement.query_row([id], Old::read)?;
        let (status, reason) = if is_past_ttl(found.facts.last_activity, old.ttl_ms, found.at) {
            (Status::Expired, Some(Reason::Ttl))
        } else {
            (found.status, found.reason)
        };
        // It was continued after it was deleted.
        let comes_back = old.trashed_at.is_some_and(|at| found.facts.last_activity.0 > at);
        // A deleted directory has no git top level any more, so it keeps its old project.
        let project_id = if old.launch_dir == found.facts.launch_dir
            && found.project == found.facts.launch_dir
        {
            old.project_id
        } else {
            self.project(&found.project)?
        };
        let mut statement = connection.prepare_cached(
            "UPDATE sessions SET project_id = :project_id, kind = :kind, launch_dir = :launch_dir,
             cwd = ifnull(:cwd, cwd), title = ifnull(:title, title), model = ifnull(:model, model),
             git_branch = ifnull(:git_branch, git_branch),
             last_prompt = ifnull(:last_prompt, last_prompt), status = :status, reason = :reason,
             created_at = :created_at, last_activity = :last_activity, checked_at = :at,
             expires_at = :expires_at, parent_id = ifnull(parent_id, :parent_id),
             trashed_at = iif(:comes_back, NULL, trashed_at),
             status_since = iif(status = :status, status_since, :at), revision = revision + 1
         WHERE id = :id",
        )?;
        statement.execute(named_params! {
            ":id": id, ":project_id": project_id, ":kind": found.facts.kind.as_str(),
            ":launch_dir": found.facts.launch_dir, ":cwd": found.facts.cwd,
            ":title": found.facts.title, ":model": found.facts.model,
            ":git_branch": found.facts.git_branch, ":last_prompt": found.facts.last_prompt,
            ":status": status.as_str(), ":reason": reason.map(Reason::as_str),
            ":comes_back": comes_back,
            ":created_at": found.facts.created_at.0, ":last_activity": found.facts.last_activity.0,
            ":at": found.at.0, ":expires_at": found.expires_at.map(|at| at.0),
            ":parent_id": moved::parent_id(connection, found)?,
        })?;
        let mut statement = connection.prepare_cached(
            "UPDATE bindings SET location = ?1
         WHERE home_id = ?2 AND scope = ?3 AND provider_session_id = ?4",
        )?;
        let FoundSession { home_id, location, .. } = found;
        let Facts { scope, provider_session_id, .. } = &found.facts;
        statement.execute((location, home_id, scope, provider_session_id))?;
        if comes_back {
            let data = serde_json::json!({ "reason": TrashReason::Activity });
            events::append(connection, found.at, EventType::Undeleted, Some(id), &data)?;
        }
        self.announce(id, old.expires_at, found)?;
        if old.status == status.as_str() {
            return Ok(());
        }
        let data = serde_json::json!({ "from": old.status, "to": status, "reason": reason });
        events::append(connection, found.at, EventType::StatusChanged, Some(id), &data)
    }

    /// Announces a session that expires soon and did not before.
    fn announce(&self, id: &str, before: Option<i64>, found: &FoundSession) -> Result<()> {
        let is_near = |at: i64| self.announced.is_some_and(|limit| at < limit.0);
        match found.expires_at.filter(|at| is_near(at.0) && !before.is_some_and(is_near)) {
            None => Ok(()),
            Some(at) => {
                let data = serde_json::json!({ "expires_at": at });
                events::append(self.connection, found.at, EventType::Expiring, Some(id), &data)
            }
        }
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

    /// Ends the import and appends the events of the new sessions.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub fn finish(self) -> Result<()> {
        events::append_discovered(self.connection, self.last)?;
        match self.announced {
            Some(before) => events::append_expiring(self.connection, self.last, before),
            None => Ok(()),
        }
    }
}

/// A unique key of a provider's session: home, scope, id.
pub(super) type Key<'a> = (i64, &'a str, &'a str);

/// The columns of a known session that decide how it is updated.
struct Old {
    status: String,
    launch_dir: String,
    project_id: i64,
    trashed_at: Option<i64>,
    expires_at: Option<i64>,
    /// Not set while the session is protected from it.
    ttl_ms: Option<i64>,
}

impl Old {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            status: row.get("status")?,
            launch_dir: row.get("launch_dir")?,
            project_id: row.get("project_id")?,
            trashed_at: row.get("trashed_at")?,
            expires_at: row.get("expires_at")?,
            ttl_ms: row.get("ttl_in_force")?,
        })
    }
}

/// A session that is bound to a provider's id, or was.
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_current: bool,
}

fn unless_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
