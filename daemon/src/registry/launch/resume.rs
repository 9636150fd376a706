//! Resuming at a terminal: checks the session, gives the calling process the lease, and returns the
//! launch plan that the caller executes in its own process. It must not start the provider, nor
//! know its command line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sessd_proto::launch::{ResumeRequest, ResumeResponse};
use sessd_proto::service::{STEAL_MS, WAIT_MS_MAX};
use sessd_proto::{Fault, FaultCode, LaunchPlan, LeaseKind};

use super::Launches;
use super::admission::Admission;
use super::create;
use crate::failpoint;
use crate::process;
use crate::registry::discovery::verdict::is_unstarted;
use crate::registry::homes::KnownHome;
use crate::registry::writers::leases::{has_turns, living};
use crate::store::leases::Lease;
use crate::store::sessions::Stored;

/// Interval for checking whether a session has become free.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl Launches {
    /// Checks a session, gives the calling process its lease, and returns the launch plan.
    ///
    /// # Errors
    /// Fails if the selector cannot be resolved, with `busy` if another process has the session, or
    /// with the reason why it cannot be resumed.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        mut request: ResumeRequest,
        caller: u32,
    ) -> Result<ResumeResponse, Fault> {
        self.discovery.remember_caller(&request.environment).await?;
        // A fork leaves the original to the process that has it open.
        let needs_lease = !request.plan_only && request.fork_as.is_none();
        let row = match (&request.selector, &request.project) {
            (Some(selector), _) => self.sessions.resolve(selector).await?,
            (None, Some(dir)) => self.sessions.newest_resumable(dir).await?,
            (None, None) => return Err(no_session_named()),
        };
        let known = self.homes.of_session(&row).await?;
        let named = [&request.cwd, &request.project].into_iter().flatten().cloned();
        let row = self.discovery.try_directories(&known, row, &named.collect::<Vec<_>>()).await?;
        // Its own directory is not another one.
        request.cwd = request.cwd.filter(|dir| *dir != row.session.launch_dir);
        let anywhere = known.provider.launcher().resume_anywhere();
        let admission = Admission::of_resume(&request, anywhere);
        admission.precheck(&row.session)?;
        if let Some(attached) = self.attach(&known, &row, &request).await? {
            return Ok(attached);
        }
        // Before the check: a transcript that is being written may look damaged.
        if needs_lease {
            self.make_free(&row, &request, caller).await?;
        }
        let row = self.check_unstarted(&known, row, &request.environment).await?;
        admission.admit(&row.session)?;
        if needs_lease {
            self.must_be_free(&row, caller).await?;
        }
        let (mut row, plan) = self.plan(&known, row, &request).await?;
        if !request.plan_only {
            let lease = self.writers.lease(&row.session, caller, LeaseKind::Interactive).await?;
            failpoint::reach("resume.leased");
            if needs_lease {
                row = self.prepare(&known, row, &request, lease).await?;
            }
        }
        let mut sessions = self.writers.with_live(vec![row]).await?;
        let session = sessions.pop().unwrap_or_default();
        Ok(ResumeResponse { session, plan, unreadable: self.homes.unreadable().await? })
    }

    /// Prepares the files of a session for its start and returns it as it is then.
    ///
    /// # Errors
    /// Fails, and ends the lease, if a file must be changed and cannot be changed now.
    async fn prepare(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        request: &ResumeRequest,
        lease: Lease,
    ) -> Result<Stored, Fault> {
        let patience = Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX).into());
        match self.writers.prepare(known, &row, Some(lease.pid), patience).await {
            Ok(false) => Ok(row),
            // The verdict may have changed with the files.
            Ok(true) => self.discovery.check(row).await,
            Err(fault) => {
                self.writers.end_lease(lease).await?;
                Err(fault)
            }
        }
    }

    /// Returns the launch plan that was asked for, and the session that it starts.
    async fn plan(
        self: &Arc<Self>,
        known: &KnownHome,
        row: Stored,
        request: &ResumeRequest,
    ) -> Result<(Stored, LaunchPlan), Fault> {
        let cwd = request.cwd.as_deref();
        if let Some(copy_id) = &request.fork_as {
            return self.fork(known, &row, copy_id, request).await;
        }
        let launch = self.launch(&row, &request.environment).await?;
        let (session, launch_of, cwd) =
            (row.session.clone(), launch.clone(), cwd.map(str::to_owned));
        let plan = if let Some(original) = self.original(&row).await? {
            let original = self.homes.to_launch(&original).await?;
            self.ask_plan(known, move |known| {
                let forks = create::forks(known.provider, launch_of.version)?;
                let cwd = cwd.as_deref().unwrap_or(&session.launch_dir);
                let id = session.provider_session_id.as_deref();
                Ok::<_, Fault>(forks.plan(&known.home, &original, id, cwd, &launch_of))
            })
            .await??
        } else if is_unstarted(&session) {
            let plan = move |known: &KnownHome| {
                create::plan_new(known, &session, cwd.as_deref(), &launch_of)
            };
            self.ask_plan(known, plan).await?
        } else {
            let bound = self.homes.to_launch(&row).await?;
            let plan = move |known: &KnownHome| {
                let launcher = known.provider.launcher();
                launcher.plan_resume(&known.home, &bound, cwd.as_deref(), &launch_of)
            };
            self.ask_plan(known, plan).await?
        };
        Ok((row, self.complete(known, &launch, plan).await?))
    }

    /// Waits until the session is free, or steals it if the caller asks for that. While a turn is
    /// queued nothing is stolen: that turn was promised to another caller and runs next.
    ///
    /// # Errors
    /// Fails with `busy` if another process or a turn still has the session after the wait.
    async fn make_free(
        self: &Arc<Self>,
        row: &Stored,
        request: &ResumeRequest,
        caller: u32,
    ) -> Result<(), Fault> {
        let mut wait_ms = u64::from(request.wait_ms.min(WAIT_MS_MAX));
        if request.steal && !self.writers.queues.has(&row.session.id) {
            self.steal(row, caller).await?;
        } else if request.steal
            && let Some(turn_id) = self.only_turn(row, caller).await?
        {
            self.writers.queues.stop_current(&row.session.id, Some(&turn_id));
            wait_ms = wait_ms.max(STEAL_MS);
        }
        let give_up = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            let busy = self.must_be_free(row, caller).await;
            if busy.is_ok() || Instant::now() >= give_up {
                return busy;
            }
            // A process that we did not start cannot be watched.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the running turn of a session if no other turn waits. `None` also if the caller
    /// itself was started by that turn: stopping it would end the caller.
    async fn only_turn(&self, row: &Stored, caller: u32) -> Result<Option<String>, Fault> {
        let Some(turn_id) = self.writers.queues.sole_current(&row.session.id) else {
            return Ok(None);
        };
        let id = row.session.id.clone();
        let held = self.store.read(move |c| living(c, &id)).await?;
        let runs = held.filter(|lease| lease.kind == LeaseKind::Turn);
        Ok(runs.filter(|lease| !process::is_below(caller, lease.pid)).map(|_| turn_id))
    }

    /// Succeeds if no process but the caller has the session: requests may be repeated.
    ///
    /// # Errors
    /// Fails with `busy` if another process or a turn has it, or if the registry cannot be read.
    async fn must_be_free(self: &Arc<Self>, row: &Stored, caller: u32) -> Result<(), Fault> {
        let live = self.writers.live(row).await?;
        if live.blocks() && live.pid != Some(caller) {
            return Err(self.busy(row, &live).await?);
        }
        if self.writers.queues.has(&row.session.id) {
            return Err(has_turns(&row.session));
        }
        Ok(())
    }
}

fn no_session_named() -> Fault {
    Fault::new(FaultCode::Usage, "no session given")
        .hint("`sessctl resume SELECTOR` or `sessctl resume --last`")
}
