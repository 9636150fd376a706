//! Leases: the exclusive right to run a session. They belong to processes, are held by pid, start
//! time and boot, watched by pidfd, and outlive the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Transaction;
use sessd_proto::service::STEAL_MS;
use sessd_proto::{Fault, FaultCode, Live, LiveState, Session, Status, Timestamp};

use super::Registry;
use super::live::is_alive;
use crate::clock::now;
use crate::store::leases::{self, Lease};
use crate::store::sessions::Stored;
use crate::store::turns;
use crate::{process, store, system};

/// How often we look whether a group has ended, which gives no sign.
const LOOK: Duration = Duration::from_millis(20);

/// How long a transcript may be torn while it is rewritten.
const REWRITING: Duration = Duration::from_secs(3);

impl Registry {
    /// Gives a process the lease of a session.
    pub(super) async fn lease(
        self: &Arc<Self>,
        session: &Session,
        pid: u32,
        kind: &str,
    ) -> Result<Lease, Fault> {
        let lease = lease_of(session, pid, kind)?;
        let (wanted, shown) = (lease.clone(), session.clone());
        self.store
            .write_durable(move |tx| {
                let held = leases::of_session(tx, &wanted.session_id)?;
                let other = |held: &Lease| {
                    (held.pid, held.start_ticks) != (wanted.pid, wanted.start_ticks)
                        && is_alive(held, &wanted.boot_id)
                };
                match held.filter(other) {
                    Some(held) => Err(busy(&shown, &live_of(&held)).into()),
                    None if turns::is_running(tx, &wanted.session_id)? => {
                        Err(has_turns(&shown).into())
                    }
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
    pub(super) fn watch_lease(self: &Arc<Self>, lease: Lease) {
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

    /// Waits while a transcript is being rewritten: some empty it when they open it, and it would
    /// be lost if they ended in the middle.
    async fn wait_until_whole(&self, row: &Stored) -> Result<(), Fault> {
        let Some(known) = self.home_of(row).await? else { return Ok(()) };
        let give_up = Instant::now() + REWRITING;
        while Instant::now() < give_up && self.ask(&known, row).await?.status == Status::Invalid {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Asks the process that has the lease to end, and waits until it has.
    pub(super) async fn steal(self: &Arc<Self>, row: &Stored, caller: u32) -> Result<(), Fault> {
        let id = row.session.id.clone();
        let held = self.store.read(move |c| leases::of_session(c, &id)).await?;
        // The caller's own is that of a request that it repeats.
        let held = held.filter(|lease| lease.kind == "interactive" && lease.pid != caller);
        let Some(lease) = held.filter(|lease| is_alive(lease, &process::boot_id())) else {
            return Ok(());
        };
        self.wait_until_whole(row).await?;
        process::ask_to_end(lease.pid);
        let patience = Duration::from_millis(STEAL_MS);
        let ended = tokio::time::timeout(patience, ended_with_group(lease.pid)).await;
        let short = row.session.short_id();
        match ended {
            Ok(Ok(())) => Ok(self.end_lease(lease).await?),
            Ok(Err(error)) => Err(Fault::internal(error)),
            Err(_) => {
                let what = format!(
                    "the session {short} is still open in process {}, which was asked to end",
                    lease.pid
                );
                Err(Fault::new(FaultCode::Busy, what).hint("end it yourself, or try again"))
            }
        }
    }
}

/// Returns once a process has ended and, if it led one, its whole group: a launcher may be gone
/// while what it has started still writes.
async fn ended_with_group(pid: u32) -> std::io::Result<()> {
    system::process_ended(pid).await?;
    while process::has_group(pid) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The lease that a process would have.
pub(super) fn lease_of(session: &Session, pid: u32, kind: &str) -> Result<Lease, Fault> {
    Ok(Lease {
        session_id: session.id.clone(),
        pid,
        start_ticks: process::start_ticks(pid).ok_or_else(|| caller_gone(pid))?,
        boot_id: process::boot_id(),
        kind: kind.to_owned(),
        since: now(),
    })
}

/// Refuses what needs a session that somebody has taken the lease of.
pub(super) fn must_be_free(tx: &Transaction<'_>, session: &Session) -> store::Result<()> {
    let held = leases::of_session(tx, &session.id)?;
    match held.filter(|lease| is_alive(lease, &process::boot_id())) {
        Some(held) => Err(busy(session, &live_of(&held)).into()),
        None => Ok(()),
    }
}

/// The session is ours, and its turns come first.
pub(super) fn has_turns(session: &Session) -> Fault {
    let short = session.short_id();
    Fault::new(FaultCode::Busy, format!("the session {short} has turns to run")).hint(format!(
        "wait: `sessctl resume --wait {short}`; which: `sessctl turns --session {short}`"
    ))
}

/// True if somebody has taken the lease of a session, perhaps a moment ago.
pub(super) fn is_leased(tx: &Transaction<'_>, row: &Stored) -> store::Result<bool> {
    let held = leases::of_session(tx, &row.session.id)?;
    Ok(held.is_some_and(|lease| is_alive(&lease, &process::boot_id())))
}

fn live_of(lease: &Lease) -> Live {
    Live {
        state: LiveState::Open,
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
    let short = session.short_id();
    Fault::new(FaultCode::Busy, format!("the session {short} is {} in {who}{since}", live.state))
        .hint(format!("end it there first, or wait: `sessctl resume --wait {short}`"))
}

fn caller_gone(pid: u32) -> Fault {
    Fault::new(FaultCode::Usage, format!("the calling process {pid} is not there any more"))
}
