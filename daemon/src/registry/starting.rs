//! Sessions that begin: registered first, started by whoever resumes them, bound to the
//! provider's id as soon as that is known (`binding`).

use std::sync::Arc;

use rusqlite::Transaction;
use sessd_proto::launch::{CreateRequest, CreateResponse, ResumeRequest};
use sessd_proto::{Environment, Fault, FaultCode, Kind, LaunchPlan, Session, Status};
use uuid::Uuid;

use super::Registry;
use super::homes::KnownHome;
use super::launches::may_resume;
use crate::clock::now;
use crate::providers::{self, Forks, Home, Launch, Provider};
use crate::store::bindings;
use crate::store::fallback;
use crate::store::intake::{self, Discovered};
use crate::store::marks;
use crate::store::sessions::{self, Stored};

/// Why a session without a transcript is unknown.
pub(super) const STARTING: &str = "starting";

/// A session that will exist once it is registered.
pub(super) struct NewSession {
    pub(super) found: Discovered,
    pub(super) provider: &'static dyn Provider,
    pub(super) home: Home,
    pub(super) launch: Launch,
}

impl Registry {
    /// Registers a session that `resume` will start.
    ///
    /// # Errors
    /// When there is no such agent, or it has no home.
    pub async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<CreateResponse, Fault> {
        must_be_uuid(&request.id)?;
        self.remember_caller(&request.environment).await?;
        let CreateRequest { id, agent, cwd, cwd_given, ttl_ms, environment } = request;
        let mut new = self.new_session(id, &agent, &cwd, cwd_given, &environment).await?;
        new.found.kind = Kind::Interactive;
        let row = self.register(new, ttl_ms).await?;
        let mut sessions = self.with_live(vec![row]).await?;
        Ok(CreateResponse { session: sessions.pop().unwrap_or_default() })
    }

    /// What a session of this agent starts as.
    pub(super) async fn new_session(
        &self,
        id: String,
        agent: &str,
        cwd: &str,
        cwd_given: bool,
        environment: &Environment,
    ) -> Result<NewSession, Fault> {
        let (provider, profile) = self.agent(agent)?;
        let env = self.surrounding(environment, &profile.env);
        let home = first_home(provider, &env)?;
        let directory = profile.directory.as_ref().filter(|_| !cwd_given);
        let directory = directory.map(|dir| dir.to_string_lossy().into_owned());
        let cwd = directory.as_deref().unwrap_or(cwd);
        let project = self.project_of(cwd).await?;
        // What would be refused at the start is refused before anything is written down.
        let launch = self.launch_of(provider, agent, profile.flags.clone(), &id, environment)?;
        let found = Discovered {
            agent: agent.to_owned(),
            launch: serde_json::to_string(&profile.flags).map_err(Fault::internal)?,
            ..starting(id, provider, cwd, project)
        };
        Ok(NewSession { found, provider, home, launch })
    }

    async fn register(&self, new: NewSession, ttl_ms: Option<i64>) -> Result<Stored, Fault> {
        let id = new.found.id.clone();
        let row = self
            .store
            .promise(move |tx| {
                // A request may be repeated.
                if let Some(row) = sessions::by_id(tx, &id)? {
                    return Ok(Some(row));
                }
                write_down(tx, new)?;
                if ttl_ms.is_some() {
                    marks::live_for(tx, &id, ttl_ms)?;
                }
                sessions::by_id(tx, &id)
            })
            .await?;
        row.ok_or_else(|| Fault::internal("a session was not written down"))
    }

    /// What a copy of a session starts as, where the provider can make one.
    pub(super) async fn copy_of(
        &self,
        known: &KnownHome,
        row: &Stored,
        copy_id: String,
        cwd: Option<&str>,
        environment: &Environment,
    ) -> Result<NewSession, Fault> {
        must_be_uuid(&copy_id)?;
        if is_starting(&row.session) {
            let what = format!("the session {} has not begun yet", row.session.short_id());
            return Err(
                Fault::new(FaultCode::NotResumable, what).hint("begin it: `sessctl resume`")
            );
        }
        forks(known.provider)?;
        let launch_dir = cwd.unwrap_or(&row.session.launch_dir);
        let project = self.project_of(launch_dir).await?;
        let found = Discovered {
            agent: row.session.agent.clone(),
            launch: row.launch.clone(),
            parent_id: Some(row.session.id.clone()),
            title: row.session.title.clone(),
            ..starting(copy_id, known.provider, launch_dir, project)
        };
        let launch = self.launch(row, environment)?;
        Ok(NewSession { found, provider: known.provider, home: known.home.clone(), launch })
    }

    /// What a copy that has not begun is a copy of: without that it would begin empty.
    pub(super) async fn original(self: &Arc<Self>, row: &Stored) -> Result<Option<Stored>, Fault> {
        let Some(id) = row.session.parent_id.clone().filter(|_| is_starting(&row.session)) else {
            return Ok(None);
        };
        let short = row.session.short_id();
        let found = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let original = match found {
            Some(original) => self.check_row(original, false).await?,
            None => {
                let what =
                    format!("the session {short} is a copy of one that is not there any more");
                return Err(Fault::new(FaultCode::NotResumable, what)
                    .hint(format!("nothing of it is left: `sessctl delete {short}`")));
            }
        };
        may_resume(&original.session, &ResumeRequest::default(), true)?;
        Ok(Some(original))
    }

    /// Registers a copy of a session as one of its own, and answers how to start that.
    pub(super) async fn fork(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        copy_id: &str,
        request: &ResumeRequest,
    ) -> Result<(Stored, LaunchPlan), Fault> {
        let (id, cwd) = (copy_id.to_owned(), request.cwd.as_deref());
        let mut new = self.copy_of(known, row, id, cwd, &request.environment).await?;
        new.found.kind = Kind::Interactive;
        let found = &new.found;
        let id = Some(&*found.provider_session_id).filter(|id| !id.is_empty());
        let bound = super::checks::bound(row);
        let cwd = &found.launch_dir;
        let plan = forks(known.provider)?.plan(&known.home, &bound, id, cwd, &new.launch);
        let plan = self.completed(known, &new.launch, plan).await?;
        if request.plan_only {
            return Ok((row.clone(), plan));
        }
        Ok((self.register(new, None).await?, plan))
    }
}

/// True if nothing is lost when a session begins anew at its provider: that has proved that it
/// cannot go on. Of a home that cannot be read nothing is proven.
fn may_begin_anew(session: &Session) -> bool {
    let reason = session.reason.as_deref().unwrap_or_default();
    match session.status {
        Status::Expired => true,
        Status::Invalid => !matches!(reason, "directory_missing" | "subagent"),
        Status::Active | Status::Archived => session.trashed_at.is_some(),
        Status::Unknown => session.trashed_at.is_some() && is_starting(session),
    }
}

/// True if a session has to begin anew for a prompt that may have it so.
pub(super) fn must_begin_anew(session: &Session, may: bool) -> Result<bool, Fault> {
    match may_resume(session, &ResumeRequest::default(), false) {
        Ok(()) => Ok(false),
        Err(fault) if !may_begin_anew(session) => Err(fault),
        Err(_) if may => Ok(true),
        Err(fault) => {
            let hint = fault.hint.clone().unwrap_or_default();
            Err(fault.hint(format!("{hint}; or begin it anew: `sessctl send --fallback new …`")))
        }
    }
}

/// Returns the facet that plans copies of sessions.
pub(super) fn forks(provider: &dyn Provider) -> Result<&dyn Forks, Fault> {
    provider.forks().ok_or_else(|| {
        let what = format!("{} cannot continue a copy of a session", provider.id());
        Fault::new(FaultCode::Unsupported, what).hint("which providers can: `sessctl providers`")
    })
}

/// Lets a session begin anew under its id; `false` if it has changed since it was read.
pub(super) fn begin_anew(tx: &Transaction<'_>, row: &Stored) -> crate::store::Result<bool> {
    let provider = providers::by_id(&row.session.provider);
    let chooses = provider.is_some_and(|provider| provider.launcher().choose_id());
    // Not ours again: the provider may still have something under that.
    let id = chooses.then(|| Uuid::new_v4().to_string());
    fallback::begin_anew(tx, row, id.as_deref(), now())
}

/// Writes a new session down, with its home.
pub(super) fn write_down(tx: &Transaction<'_>, new: NewSession) -> crate::store::Result<()> {
    let NewSession { mut found, home, .. } = new;
    let path = home.path.to_string_lossy();
    found.home_id = bindings::remember_home(tx, &found.provider, &path, &home.env)?;
    intake::absorb(tx, &found)
}

fn starting(id: String, provider: &dyn Provider, cwd: &str, project: String) -> Discovered {
    let chosen = if provider.launcher().choose_id() { id.clone() } else { String::new() };
    Discovered {
        id,
        provider: provider.id().to_owned(),
        provider_session_id: chosen,
        project,
        kind: Kind::Headless,
        launch_dir: cwd.to_owned(),
        cwd: Some(cwd.to_owned()),
        status: Status::Unknown,
        reason: Some(STARTING.to_owned()),
        created_at: now(),
        last_activity: now(),
        at: now(),
        ..Discovered::default()
    }
}

fn must_be_uuid(id: &str) -> Result<(), Fault> {
    match Uuid::parse_str(id) {
        Ok(_) => Ok(()),
        Err(_) => Err(Fault::new(FaultCode::Usage, "the session's id is not a UUID")),
    }
}

/// True if it was registered and nobody has begun it yet.
pub(super) fn is_starting(session: &Session) -> bool {
    session.status == Status::Unknown && session.reason.as_deref() == Some(STARTING)
}

/// The home that an environment selects.
pub(super) fn first_home(provider: &dyn Provider, env: &Environment) -> Result<Home, Fault> {
    provider.homes(env).into_iter().next().ok_or_else(|| {
        let what =
            format!("{} has no home: neither HOME nor its own variable is set", provider.id());
        Fault::new(FaultCode::Environment, what).hint("set HOME to your home directory")
    })
}

/// How a session begins that is only registered yet.
pub(super) fn plan_new(
    known: &KnownHome,
    row: &Stored,
    cwd: Option<&str>,
    launch: &Launch,
) -> LaunchPlan {
    let id = row.session.provider_session_id.as_deref();
    let cwd = cwd.unwrap_or(&row.session.launch_dir);
    known.provider.launcher().plan_new(&known.home, id, cwd, launch)
}
