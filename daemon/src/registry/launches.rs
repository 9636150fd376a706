//! Resuming at a terminal: the verdict, then the lease for the calling process and the launch
//! plan, which it executes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sessd_proto::launch::{EnvironmentRequest, Name, ResumeRequest, ResumeResponse};
use sessd_proto::service::{STEAL_MS, WAIT_MS_MAX};
use sessd_proto::{Fault, FaultCode, LaunchPlan, Session, Status};

use super::homes::KnownHome;
use super::leases::{busy, has_turns};
use super::patience::CHECK;
use super::sessions::disk_hangs;
use super::starting::{self, is_starting};
use super::{Registry, agents, checks};
use crate::failpoint;
use crate::process;
use crate::providers::Launch;
use crate::store::leases;
use crate::store::sessions::Stored;

/// How often we look whether a session is free.
const LOOK: Duration = Duration::from_millis(250);

impl Registry {
    /// Names of the variables that providers want to know.
    #[must_use]
    pub fn environment(&self, _: &EnvironmentRequest) -> Vec<Name> {
        self.declared.clone()
    }

    /// Checks a session, gives the calling process its lease, and answers how to start it.
    ///
    /// # Errors
    /// Why it cannot be resumed, or who has it.
    pub async fn resume(
        self: &Arc<Self>,
        request: ResumeRequest,
        caller: u32,
    ) -> Result<ResumeResponse, Fault> {
        self.remember_caller(&request.environment).await?;
        // A copy takes nothing away from whoever has the original.
        let wants_it = !request.plan_only && request.fork_as.is_none();
        let row = match (&request.selector, &request.project) {
            (Some(selector), _) => self.resolve(selector).await?,
            (None, Some(dir)) => self.newest_resumable(dir).await?,
            (None, None) => return Err(no_session_named()),
        };
        let known = self.home_of(&row).await?.ok_or_else(|| Fault::internal("no home"))?;
        let anywhere = known.provider.launcher().resume_anywhere();
        may_ever(&row.session, &request, anywhere)?;
        // Before the check: what somebody writes now may look damaged in between.
        if wants_it {
            self.make_free(&row, &request, caller).await?;
        }
        let row = self.check_begun(&known, row).await?;
        may_resume(&row.session, &request, anywhere)?;
        if wants_it {
            self.must_be_free(&row, caller).await?;
        }
        let (row, plan) = self.planned(&known, row, &request).await?;
        if !request.plan_only {
            self.lease(&row.session, caller, "interactive").await?;
            failpoint::reach("resume.leased");
        }
        let mut sessions = self.with_live(vec![row]).await?;
        let session = sessions.pop().unwrap_or_default();
        Ok(ResumeResponse { session, plan })
    }

    /// Checks a session; one that seems not to have begun is looked for first.
    pub(super) async fn check_begun(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
    ) -> Result<Stored, Fault> {
        let row = self.check_row(row, false).await?;
        if !is_starting(&row.session) {
            return Ok(row);
        }
        // It may have begun a moment ago, and been cut off.
        self.sweep_home(known).await?;
        self.stored(row.seq).await
    }

    /// How to start what was asked for, and the session that it is.
    async fn planned(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        request: &ResumeRequest,
    ) -> Result<(Stored, LaunchPlan), Fault> {
        let cwd = request.cwd.as_deref();
        if let Some(copy_id) = &request.fork_as {
            return self.fork(known, &row, copy_id, request).await;
        }
        let launch = self.launch(&row, &request.environment)?;
        let plan = if let Some(original) = self.original(&row).await? {
            let id = row.session.provider_session_id.as_deref();
            let (original, cwd) =
                (checks::bound(&original), cwd.unwrap_or(&row.session.launch_dir));
            starting::forks(known.provider)?.plan(&known.home, &original, id, cwd, &launch)
        } else if is_starting(&row.session) {
            starting::plan_new(known, &row, cwd, &launch)
        } else {
            known.provider.launcher().plan_resume(&known.home, &checks::bound(&row), cwd, &launch)
        };
        Ok((row, self.completed(known, &launch, plan).await?))
    }

    /// Waits for whoever has the session, or has it end, as far as the caller wants that. Where a
    /// turn waits, nobody is ended: it is promised to somebody, and comes next.
    async fn make_free(
        self: &Arc<Self>,
        row: &Stored,
        request: &ResumeRequest,
        caller: u32,
    ) -> Result<(), Fault> {
        let mut wait_ms = u64::from(request.wait_ms.min(WAIT_MS_MAX));
        if request.steal && !self.turns.has(&row.session.id) {
            self.steal(row, caller).await?;
        } else if request.steal
            && let Some(turn_id) = self.only_turn(row, caller).await?
        {
            self.turns.stop_current(&row.session.id, Some(&turn_id));
            wait_ms = wait_ms.max(STEAL_MS);
        }
        let give_up = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            let busy = self.must_be_free(row, caller).await;
            if busy.is_ok() || Instant::now() >= give_up {
                return busy;
            }
            // A process that was not started by us gives no sign when it ends.
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The turn that runs in a session in which none waits. A process that it has started would
    /// end itself with it.
    async fn only_turn(&self, row: &Stored, caller: u32) -> Result<Option<String>, Fault> {
        let Some(turn_id) = self.turns.only_one(&row.session.id) else { return Ok(None) };
        let id = row.session.id.clone();
        let held = self.store.read(move |c| leases::of_session(c, &id)).await?;
        let runs = held.filter(|lease| lease.kind == "turn");
        Ok(runs.filter(|lease| !process::is_below(caller, lease.pid)).map(|_| turn_id))
    }

    /// Nobody has it, or the caller itself: a request may be repeated.
    async fn must_be_free(self: &Arc<Self>, row: &Stored, caller: u32) -> Result<(), Fault> {
        let live = self.live(row).await?;
        if live.blocks() && live.pid != Some(caller) {
            return Err(busy(&row.session, &live));
        }
        if self.turns.has(&row.session.id) {
            return Err(has_turns(&row.session));
        }
        Ok(())
    }

    /// A provider's plan with the environment of the home and the agent, and the configured
    /// program; the files that it names are written.
    pub(super) async fn completed(
        &self,
        known: &KnownHome,
        launch: &Launch,
        mut plan: LaunchPlan,
    ) -> Result<LaunchPlan, Fault> {
        let agents = launch.env.0.iter().map(|(name, value)| (name, Some(value.clone())));
        let homes = known.home.env.iter().map(|(name, value)| (name, value.clone()));
        for (name, value) in homes.chain(agents) {
            plan.env.entry(name.clone()).or_insert(value);
        }
        if let Some(program) = self.config.programs.get(known.provider.id()) {
            plan.program = program.to_string_lossy().into_owned();
        }
        agents::write_files(known.provider, &known.home, launch).await?;
        self.without_other_servers(known, launch, plan).await
    }

    /// A plan that starts none of the MCP servers in the settings of the user or of the directory,
    /// where the agent has its own.
    async fn without_other_servers(
        &self,
        known: &KnownHome,
        launch: &Launch,
        mut plan: LaunchPlan,
    ) -> Result<LaunchPlan, Fault> {
        if launch.mcp_servers.is_empty() {
            return Ok(plan);
        }
        let (cwd, known, launch) = (plan.cwd.clone(), known.clone(), launch.clone());
        let look = move || {
            known.provider.launcher().without_other_servers(&known.home, &launch, &mut plan);
            plan
        };
        let looked = self.elsewhere.pass(Path::new(&cwd), CHECK, look).await?;
        looked.map_err(|_| disk_hangs(&cwd))
    }
}

/// What is refused whatever a check says, so before anybody is asked to end.
pub(super) fn may_ever(
    session: &Session,
    request: &ResumeRequest,
    anywhere: bool,
) -> Result<(), Fault> {
    let short = session.short_id();
    if request.cwd.is_some() && !anywhere {
        let what = format!("{} resumes a session only in its own directory", session.provider);
        return Err(Fault::new(FaultCode::Unsupported, what).hint("leave --cwd out"));
    }
    if session.trashed_at.is_some() {
        let what = format!("the session {short} is in the trash");
        return Err(Fault::new(FaultCode::NotResumable, what)
            .hint(format!("take it out: `sessctl undelete {short}`")));
    }
    Ok(())
}

pub(super) fn may_resume(
    session: &Session,
    request: &ResumeRequest,
    anywhere: bool,
) -> Result<(), Fault> {
    let short = session.short_id();
    let reason = session.reason.as_deref().unwrap_or("unknown");
    let fault = |code, what: &str, hint: String| {
        Err(Fault::new(code, format!("the session {short} {what}: {reason}")).hint(hint))
    };
    may_ever(session, request, anywhere)?;
    match session.status {
        Status::Active => Ok(()),
        Status::Unknown if request.force || is_starting(session) => Ok(()),
        Status::Unknown => fault(
            FaultCode::StatusUnknown,
            "cannot be checked now",
            format!("try all the same: `sessctl resume --force {short}`"),
        ),
        Status::Invalid if reason == "directory_missing" && anywhere => {
            if request.cwd.is_some() {
                return Ok(());
            }
            let hint = format!("resume it elsewhere: `sessctl resume {short} --cwd DIR`");
            fault(FaultCode::DirectoryMissing, "has lost its directory", hint)
        }
        Status::Invalid if reason == "directory_missing" => {
            let hint = format!("make it again: `mkdir -p {}`", session.launch_dir);
            fault(FaultCode::DirectoryMissing, "has lost its directory", hint)
        }
        Status::Archived => {
            let hint = format!("bring it back with {} itself", session.provider);
            fault(FaultCode::NotResumable, "was put aside by its provider", hint)
        }
        Status::Expired if reason == "ttl" => {
            let hint = format!("lift it: `sessctl undelete {short}`, or `sessctl pin {short}`");
            fault(FaultCode::NotResumable, "is past its time to live", hint)
        }
        Status::Expired => {
            let hint = "sessions that can be resumed: `sessctl list --status active`".to_owned();
            fault(FaultCode::NotResumable, "is gone at its provider", hint)
        }
        Status::Invalid => {
            let hint = format!("more about it: `sessctl show {short}`");
            fault(FaultCode::NotResumable, "would be refused by its provider", hint)
        }
    }
}

fn no_session_named() -> Fault {
    Fault::new(FaultCode::Usage, "neither a session nor a project was named")
        .hint("`sessctl resume SELECTOR` or `sessctl resume --last`")
}
