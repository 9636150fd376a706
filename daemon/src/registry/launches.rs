//! Resuming at a terminal: the verdict, the lease and the launch plan.
//!
//! A lease belongs to the calling process and lasts as long as it does, also through `exec` and
//! through restarts of the daemon: it is held by pid, start time and boot, and watched by pidfd.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use sessd_proto::launch::{EnvironmentRequest, ResumeRequest, ResumeResponse};
use sessd_proto::{Fault, FaultCode, LaunchPlan, Live, Session, Status, Timestamp};

use super::Registry;
use super::homes::KnownHome;
use super::live::is_alive;
use crate::clock::now;
use crate::providers;
use crate::store::leases::{self, Lease};
use crate::store::sessions::Stored;
use crate::{process, system};

impl Registry {
    /// Names of the variables that providers want to know.
    #[must_use]
    pub fn environment(&self, _: &EnvironmentRequest) -> Vec<String> {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let names = providers::ALL.iter().flat_map(|provider| provider.environment());
            let sorted: BTreeSet<_> = names.collect();
            sorted.into_iter().map(|name| (*name).to_owned()).collect()
        });
        NAMES.clone()
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
        let row = match (&request.selector, &request.project) {
            (Some(selector), _) => {
                let row = self.resolve(selector).await?;
                // Before the check: what somebody writes now may look damaged in between.
                if !request.plan_only {
                    self.must_be_free(&row).await?;
                }
                self.check_row(row, false).await?
            }
            (None, Some(dir)) => self.newest_resumable(dir).await?,
            (None, None) => return Err(no_session_named()),
        };
        let known = self.home_of(&row).await?.ok_or_else(|| starting(&row.session))?;
        may_resume(&row.session, &request, known.provider.capabilities().resume_anywhere)?;
        if !request.plan_only {
            self.must_be_free(&row).await?;
            self.lease(&row.session, caller, "interactive").await?;
        }
        let plan = self.plan_resume(&known, &row, request.cwd.as_deref());
        let mut sessions = self.with_live(vec![row]).await?;
        let session = sessions.pop().unwrap_or_default();
        Ok(ResumeResponse { session, plan })
    }

    async fn must_be_free(self: &Arc<Self>, row: &Stored) -> Result<(), Fault> {
        let live = self.live(row).await?;
        if live.blocks() {
            return Err(busy(&row.session, &live));
        }
        if self.turns.has(&row.session.id) {
            let what = format!("the session {} has turns to run", row.session.id);
            return Err(Fault::new(FaultCode::Busy, what).hint("try again when they are done"));
        }
        Ok(())
    }

    fn plan_resume(&self, known: &KnownHome, row: &Stored, cwd: Option<&str>) -> LaunchPlan {
        let bound = super::checks::bound(row);
        let plan = known.provider.plan_resume(&known.home, &bound, cwd);
        self.completed(known, plan)
    }

    /// A provider's plan with the home's environment and the configured program.
    pub(super) fn completed(&self, known: &KnownHome, mut plan: LaunchPlan) -> LaunchPlan {
        for (name, value) in &known.home.env {
            plan.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if let Some(program) = self.config.programs.get(known.provider.id()) {
            plan.program = program.to_string_lossy().into_owned();
        }
        plan
    }

    /// Gives a process the lease of a session.
    pub(super) async fn lease(
        self: &Arc<Self>,
        session: &Session,
        pid: u32,
        kind: &str,
    ) -> Result<Lease, Fault> {
        let start_ticks = process::start_ticks(pid).ok_or_else(|| caller_gone(pid))?;
        let lease = Lease {
            session_id: session.id.clone(),
            pid,
            start_ticks,
            boot_id: process::boot_id(),
            kind: kind.to_owned(),
            since: now(),
        };
        let (wanted, shown) = (lease.clone(), session.clone());
        self.store
            .promise(move |tx| {
                let held = leases::of_session(tx, &wanted.session_id)?;
                let other = |held: &Lease| {
                    (held.pid, held.start_ticks) != (wanted.pid, wanted.start_ticks)
                        && is_alive(held, &wanted.boot_id)
                };
                match held.filter(other) {
                    Some(held) => Err(busy(&shown, &live_of(&held)).into()),
                    None => leases::put(tx, &wanted),
                }
            })
            .await?;
        self.watch_lease(lease.clone());
        Ok(lease)
    }

    /// Ends leases of processes that are gone and watches the others again.
    pub(super) async fn recover_leases(self: &Arc<Self>) -> Result<(), crate::store::Error> {
        let boot_id = process::boot_id();
        for lease in self.store.read(leases::all).await? {
            if is_alive(&lease, &boot_id) {
                self.watch_lease(lease);
            } else {
                self.store.write(move |tx| leases::end(tx, &lease)).await?;
            }
        }
        Ok(())
    }

    /// Ends a lease when its process does.
    fn watch_lease(self: &Arc<Self>, lease: Lease) {
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = system::process_ended(lease.pid).await {
                // It stays in the table, and is_alive() decides when somebody asks.
                tracing::warn!("cannot watch process {}: {error}", lease.pid);
                return;
            }
            if let Err(error) = registry.end_lease(lease).await {
                tracing::warn!("cannot end a lease: {error}");
            }
        });
    }

    pub(super) async fn end_lease(&self, lease: Lease) -> Result<(), Fault> {
        Ok(self.store.write(move |tx| leases::end(tx, &lease)).await?)
    }
}

fn live_of(lease: &Lease) -> Live {
    Live {
        state: sessd_proto::LiveState::Open,
        pid: Some(lease.pid),
        what: process::command(lease.pid),
        since: Some(lease.since),
    }
}

/// The session belongs to somebody else now.
pub(super) fn busy(session: &Session, live: &Live) -> Fault {
    let who = match (live.pid, &live.what) {
        (Some(pid), Some(what)) => format!("process {pid} ({what})"),
        (Some(pid), None) => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let since = live.since.map_or_else(String::new, |since: Timestamp| format!(" since {since}"));
    let short = session.id.get(..8).unwrap_or(&session.id);
    Fault::new(FaultCode::Busy, format!("the session {short} is {} in {who}{since}", live.state))
        .hint(format!("end it there first; `sessctl show {short}` tells who has it"))
}

pub(super) fn may_resume(
    session: &Session,
    request: &ResumeRequest,
    anywhere: bool,
) -> Result<(), Fault> {
    let short = session.id.get(..8).unwrap_or(&session.id);
    let reason = session.reason.as_deref().unwrap_or("unknown");
    let fault = |code, what: &str, hint: String| {
        Err(Fault::new(code, format!("the session {short} {what}: {reason}")).hint(hint))
    };
    if request.cwd.is_some() && !anywhere {
        let what = format!("{} resumes a session only in its own directory", session.provider);
        return Err(Fault::new(FaultCode::Unsupported, what).hint("leave --cwd out"));
    }
    match session.status {
        Status::Active => Ok(()),
        Status::Unknown if request.force => Ok(()),
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

fn starting(session: &Session) -> Fault {
    Fault::new(FaultCode::StatusUnknown, format!("the session {} is still starting", session.id))
        .hint("try again in a moment")
}

fn caller_gone(pid: u32) -> Fault {
    Fault::new(FaultCode::Usage, format!("the calling process {pid} is not there any more"))
}
