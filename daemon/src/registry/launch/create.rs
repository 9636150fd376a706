//! New sessions and forks: registered first, started by the caller that resumes them, and bound to
//! the provider's id as soon as that is known (see `discovery::bind`). It must not start a process.

use std::sync::Arc;

use rusqlite::Transaction;
use sessd_proto::launch::{CreateRequest, CreateResponse, ResumeRequest};
use sessd_proto::{
    Environment, Facts, Fault, FaultCode, Kind, LaunchPlan, Reason, Session, Status,
};
use uuid::Uuid;

use super::Launches;
use super::admission::Admission;
use crate::clock::now;
use crate::providers::{self, Forks, Home, Launch, Provider, Version};
use crate::registry::discovery::verdict::is_unstarted;
use crate::registry::homes::KnownHome;
use crate::store::annotations;
use crate::store::bindings;
use crate::store::import::{self, FoundSession};
use crate::store::rebind;
use crate::store::sessions::{self, Stored};

/// A session that will exist once it is registered.
pub(crate) struct NewSession {
    pub(crate) found: FoundSession,
    pub(crate) provider: &'static dyn Provider,
    pub(crate) home: Home,
    pub(crate) launch: Launch,
}

impl Launches {
    /// Registers a session that `resume` will start.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such agent, with `environment` if its provider has no
    /// home, or if the registry cannot be written.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<CreateResponse, Fault> {
        must_be_uuid(&request.id)?;
        self.discovery.remember_caller(&request.environment).await?;
        let CreateRequest { id, agent, cwd, cwd_given, ttl_ms, environment } = request;
        let mut new = self.new_session(id, &agent, &cwd, cwd_given, &environment).await?;
        new.found.facts.kind = Kind::Interactive;
        let row = self.register(new, ttl_ms).await?;
        let mut sessions = self.writers.with_live(vec![row]).await?;
        Ok(CreateResponse { session: sessions.pop().unwrap_or_default() })
    }

    /// Returns a new session of an agent, not registered yet.
    ///
    /// # Errors
    /// Fails if there is no such agent, its provider has no home or refuses the launch, or the
    /// disk of the directory does not answer.
    pub(crate) async fn new_session(
        &self,
        id: String,
        agent: &str,
        cwd: &str,
        cwd_given: bool,
        environment: &Environment,
    ) -> Result<NewSession, Fault> {
        let (provider, profile) = self.agent(agent)?;
        let env = self.environment(environment, &profile.env);
        let home = first_home(provider, &env)?;
        let directory = profile.directory.as_ref().filter(|_| !cwd_given);
        let directory = directory.map(|dir| dir.to_string_lossy().into_owned());
        let cwd = directory.as_deref().unwrap_or(cwd);
        let project = self.homes.directories.project_of(cwd).await?;
        // A launch that the provider refuses fails here, before anything is stored.
        let launch = self.launch_of(provider, agent, profile.flags.clone(), &id, environment);
        let launch = launch.await?;
        let found = FoundSession {
            agent: agent.to_owned(),
            launch: serde_json::to_string(&profile.flags).map_err(Fault::internal)?,
            ..unstarted(id, provider, cwd, project)
        };
        Ok(NewSession { found, provider, home, launch })
    }

    async fn register(&self, new: NewSession, ttl_ms: Option<i64>) -> Result<Stored, Fault> {
        let id = new.found.id.clone();
        let row = self
            .store
            .write_durable(move |tx| {
                // Requests may be repeated.
                if let Some(row) = sessions::by_id(tx, &id)? {
                    return Ok(Some(row));
                }
                insert(tx, new)?;
                if ttl_ms.is_some() {
                    annotations::set_ttl(tx, &id, ttl_ms)?;
                }
                sessions::by_id(tx, &id)
            })
            .await?;
        row.ok_or_else(|| Fault::internal("a session was not stored"))
    }

    /// Returns a fork of a session, not registered yet.
    ///
    /// # Errors
    /// Fails with `unsupported` if the provider cannot fork, or with `not_resumable` if the session
    /// was never started.
    pub(crate) async fn copy_of(
        &self,
        known: &KnownHome,
        row: &Stored,
        copy_id: String,
        cwd: Option<&str>,
        environment: &Environment,
    ) -> Result<NewSession, Fault> {
        must_be_uuid(&copy_id)?;
        if is_unstarted(&row.session) {
            let what = format!("the session {} was never started", row.session.short_id());
            return Err(Fault::new(FaultCode::NotResumable, what)
                .hint(format!("start it first: `sessctl resume {}`", row.session.short_id())));
        }
        let launch = self.launch(row, environment).await?;
        let chooses = forks(known.provider, launch.version)?.choose_id();
        let launch_dir = cwd.unwrap_or(&row.session.launch_dir);
        let project = self.homes.directories.project_of(launch_dir).await?;
        let mut found = FoundSession {
            agent: row.session.agent.clone(),
            launch: row.launch.clone(),
            parent_id: Some(row.session.id.clone()),
            ..unstarted(copy_id, known.provider, launch_dir, project)
        };
        found.facts.title = row.session.title.clone();
        if !chooses {
            found.facts.provider_session_id = String::new();
        }
        Ok(NewSession { found, provider: known.provider, home: known.home.clone(), launch })
    }

    /// Returns the session that a not-yet-started fork was forked from; `None` for all others.
    ///
    /// # Errors
    /// Fails if that session is gone or cannot be resumed: the fork would start empty.
    pub(crate) async fn original(self: &Arc<Self>, row: &Stored) -> Result<Option<Stored>, Fault> {
        let Some(id) = row.session.parent_id.clone().filter(|_| is_unstarted(&row.session)) else {
            return Ok(None);
        };
        let short = row.session.short_id();
        let found = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let original = match found {
            Some(original) => self.discovery.check(original).await?,
            None => {
                let what =
                    format!("the session {short} was forked from a session that no longer exists");
                return Err(Fault::new(FaultCode::NotResumable, what)
                    .hint(format!("remove it: `sessctl delete {short}`")));
            }
        };
        Admission { anywhere: true, ..Admission::default() }.admit(&original.session)?;
        Ok(Some(original))
    }

    /// Registers a fork of a session and returns it with its launch plan; with `plan_only`
    /// registers nothing and returns the original.
    ///
    /// # Errors
    /// Fails with `unsupported` if the provider cannot fork, with `not_resumable` if the session
    /// was never started, or if the registry cannot be written.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        copy_id: &str,
        request: &ResumeRequest,
    ) -> Result<(Stored, LaunchPlan), Fault> {
        let (id, cwd) = (copy_id.to_owned(), request.cwd.as_deref());
        let mut new = self.copy_of(known, row, id, cwd, &request.environment).await?;
        new.found.facts.kind = Kind::Interactive;
        let found = &new.found;
        let id = Some(&*found.facts.provider_session_id).filter(|id| !id.is_empty());
        let bound = self.homes.to_launch(row).await?;
        let cwd = &found.facts.launch_dir;
        let plan = forks(known.provider, new.launch.version)?.plan(
            &known.home,
            &bound,
            id,
            cwd,
            &new.launch,
        );
        let plan = self.complete(known, &new.launch, plan).await?;
        if request.plan_only {
            return Ok((row.clone(), plan));
        }
        Ok((self.register(new, None).await?, plan))
    }
}

/// Returns the facet that plans forks of sessions with a program of this version.
///
/// # Errors
/// Fails with `unsupported` if the provider has none.
pub(crate) fn forks(
    provider: &dyn Provider,
    version: Option<Version>,
) -> Result<&dyn Forks, Fault> {
    provider.forks_of(version).ok_or_else(|| {
        let since = provider.forks().and_then(|forks| forks.since());
        let what = match (version, since) {
            (Some(version), Some(since)) => {
                format!("{} {version} cannot fork a session; {since} and later can", provider.id())
            }
            _ => format!("{} cannot fork a session", provider.id()),
        };
        Fault::new(FaultCode::Unsupported, what).hint("which providers can: `sessctl providers`")
    })
}

/// Lets a session start over under its id; `false` if it has changed since it was read.
///
/// # Errors
/// Fails if the registry cannot be written.
pub(crate) fn start_over(tx: &Transaction<'_>, row: &Stored) -> crate::store::Result<bool> {
    let provider = providers::by_id(&row.session.provider);
    let chooses = provider.is_some_and(|provider| provider.launcher().choose_id());
    // A fresh provider id: the provider may still have something under the old one.
    let fresh = || Uuid::new_v4().to_string();
    let id = provider.map(|provider| provider.launcher()).filter(|_| chooses);
    let id = id.map(|launcher| launcher.new_id(&fresh()));
    rebind::rebind(tx, row, id.as_deref(), now())
}

/// Inserts a new session and its home.
///
/// # Errors
/// Fails if the registry cannot be written.
pub(crate) fn insert(tx: &Transaction<'_>, new: NewSession) -> crate::store::Result<()> {
    let NewSession { mut found, home, .. } = new;
    let path = home.path.to_string_lossy();
    found.home_id = bindings::remember_home(tx, &found.provider, &path, &home.env)?;
    import::upsert(tx, &found)
}

/// The row of a session that is registered but not started.
fn unstarted(id: String, provider: &dyn Provider, cwd: &str, project: String) -> FoundSession {
    let launcher = provider.launcher();
    let chosen = if launcher.choose_id() { launcher.new_id(&id) } else { String::new() };
    let facts = Facts {
        provider_session_id: chosen,
        kind: Kind::Headless,
        launch_dir: cwd.to_owned(),
        cwd: Some(cwd.to_owned()),
        created_at: now(),
        last_activity: now(),
        ..Facts::default()
    };
    FoundSession {
        id,
        provider: provider.id().to_owned(),
        facts,
        project,
        status: Status::Unknown,
        reason: Some(Reason::Starting),
        at: now(),
        ..FoundSession::default()
    }
}

fn must_be_uuid(id: &str) -> Result<(), Fault> {
    match Uuid::parse_str(id) {
        Ok(_) => Ok(()),
        Err(_) => Err(Fault::new(FaultCode::Usage, "the session id is not a UUID")),
    }
}

/// Returns the home that an environment selects.
///
/// # Errors
/// Fails with `environment` if it selects none.
pub(crate) fn first_home(provider: &dyn Provider, env: &Environment) -> Result<Home, Fault> {
    provider.homes(env).into_iter().next().ok_or_else(|| {
        let what =
            format!("{} has no home: neither HOME nor its own variable is set", provider.id());
        Fault::new(FaultCode::Environment, what).hint("set HOME to your home directory")
    })
}

/// Returns the launch plan of a session that is registered but was never started.
pub(crate) fn plan_new(
    known: &KnownHome,
    session: &Session,
    cwd: Option<&str>,
    launch: &Launch,
) -> LaunchPlan {
    let id = session.provider_session_id.as_deref();
    let cwd = cwd.unwrap_or(&session.launch_dir);
    known.provider.launcher().plan_new(&known.home, id, cwd, launch)
}
