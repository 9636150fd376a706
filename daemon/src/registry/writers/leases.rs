//! Leases: the exclusive right to run a session. A lease belongs to a process, identified by pid,
//! start time and boot id; it is watched through a pidfd and outlives the daemon.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use sessd_proto::{Fault, FaultCode, LeaseKind, Live, LiveState, Session, Timestamp};

use super::Writers;
use crate::clock::now;
use crate::store::leases::{self, Lease};
use crate::store::sessions::Stored;
use crate::store::turns;
use crate::{process, store, system};

/// Interval for removing the stubs of a session that is open.
const STUB_INTERVAL: Duration = Duration::from_secs(2);

impl Writers {
    /// Gives a process the lease of a session. A process that has it already keeps it.
    ///
    /// # Errors
    /// Fails with `busy` if another process has it or turns of ours run in the session.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        session: &Session,
        pid: u32,
        kind: LeaseKind,
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
                match held.into_iter().find(other) {
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
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn recover_leases(self: &Arc<Self>) -> Result<(), crate::store::Error> {
        let boot_id = process::boot_id();
        for lease in self.store.read(leases::all).await? {
            if is_alive(&lease, &boot_id) {
                self.watch_lease(lease);
            } else {
                let session_id = lease.session_id.clone();
                self.store.write(move |tx| leases::end(tx, &lease)).await?;
                // Not awaited: the disk may hang.
                let writers = Arc::clone(self);
                tokio::spawn(async move { writers.remove_stubs_of(&session_id).await });
            }
        }
        Ok(())
    }

    /// Watches a lease in the background and ends it when its process ends.
    pub(crate) fn watch_lease(self: &Arc<Self>, lease: Lease) {
        let writers = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = writers.attend(&lease).await {
                // The lease stays in the table; `is_alive` decides when it is next looked at.
                tracing::warn!("cannot watch process {}: {error}", lease.pid);
                return;
            }
            let session_id = lease.session_id.clone();
            if let Err(error) = writers.end_lease(lease).await {
                tracing::warn!("cannot end a lease: {error}");
            }
            writers.remove_stubs_of(&session_id).await;
        });
    }

    /// Waits until the process of a lease has ended. Until then removes the stubs that it leaves:
    /// another process of the provider may start at any time.
    async fn attend(self: &Arc<Self>, lease: &Lease) -> std::io::Result<()> {
        let ended = system::process_ended(lease.pid);
        tokio::pin!(ended);
        loop {
            match tokio::time::timeout(STUB_INTERVAL, &mut ended).await {
                Ok(ended) => return ended,
                Err(_) if self.remove_stubs_of(&lease.session_id).await => {}
                Err(_) => return ended.await,
            }
        }
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub(crate) async fn end_lease(&self, lease: Lease) -> Result<(), Fault> {
        Ok(self.store.write(move |tx| leases::end(tx, &lease)).await?)
    }
}

/// Returns the lease that a process would have.
///
/// # Errors
/// Fails if the process has ended.
pub(crate) fn lease_of(session: &Session, pid: u32, kind: LeaseKind) -> Result<Lease, Fault> {
    Ok(Lease {
        session_id: session.id.clone(),
        pid,
        start_ticks: process::start_ticks(pid).ok_or_else(|| caller_gone(pid))?,
        boot_id: process::boot_id(),
        kind,
        since: now(),
    })
}

/// Succeeds if no living process has the lease of a session.
///
/// # Errors
/// Fails with `busy` if one has, or if the registry cannot be read.
pub(crate) fn must_be_free(tx: &Transaction<'_>, session: &Session) -> store::Result<()> {
    match living(tx, &session.id)? {
        Some(held) => Err(busy(session, &live_of(&held)).into()),
        None => Ok(()),
    }
}

/// The fault for a session with turns to run: they come first.
pub(crate) fn has_turns(session: &Session) -> Fault {
    let short = session.short_id();
    Fault::new(FaultCode::Busy, format!("the session {short} has turns to run")).hint(format!(
        "wait: `sessctl resume --wait {short}`; which: `sessctl turns --session {short}`"
    ))
}

/// True if a living process has the lease of a session.
///
/// # Errors
/// Fails if the registry cannot be read.
pub(crate) fn is_leased(tx: &Transaction<'_>, row: &Stored) -> store::Result<bool> {
    Ok(living(tx, &row.session.id)?.is_some())
}

/// Returns the lease of a session or of a twin of it, if its process is alive.
///
/// # Errors
/// Fails if the registry cannot be read.
pub(crate) fn living(c: &Connection, session_id: &str) -> store::Result<Option<Lease>> {
    let (held, boot_id) = (leases::of_session(c, session_id)?, process::boot_id());
    Ok(held.into_iter().find(|lease| is_alive(lease, &boot_id)))
}

/// Returns the live state that a lease stands for.
pub(crate) fn live_of(lease: &Lease) -> Live {
    Live {
        state: LiveState::Open,
        pid: Some(lease.pid),
        what: process::command(lease.pid),
        since: Some(lease.since),
    }
}

/// The fault for a session that another process has open.
pub(crate) fn busy(session: &Session, live: &Live) -> Fault {
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
    Fault::new(FaultCode::Usage, format!("the calling process {pid} has ended"))
}

/// True if the process that took the lease still runs.
pub(crate) fn is_alive(lease: &Lease, boot_id: &str) -> bool {
    lease.boot_id == boot_id && process::start_ticks(lease.pid) == Some(lease.start_ticks)
}
