//! The ids that providers give: where we choose none, an id is what the provider's stream says or
//! what the leased process is seen to have; the same look follows a process that has moved on.

use std::sync::Arc;

use rusqlite::Transaction;
use sessd_proto::{Fault, FaultCode, Session};

use super::Registry;
use super::homes::{KnownHome, Trouble};
use super::live::is_alive;
use super::patience::LOOK;
use super::starting::is_starting;
use crate::clock::now;
use crate::process;
use crate::providers::{self, LiveSession, Start};
use crate::store::bindings;
use crate::store::leases::{self, Lease};
use crate::store::sessions::{self, Stored};

impl Registry {
    /// A session as its provider knows it: without an id that was announced and then never
    /// written. That is seen only in a home that could be looked through.
    pub(super) async fn unwritten(
        &self,
        known: &KnownHome,
        mut row: Stored,
    ) -> Result<Stored, Fault> {
        let session = &mut row.session;
        if session.provider_session_id.is_none() || !waits_for_id(session) {
            return Ok(row);
        }
        let home_id = known.id;
        let had_any = self.store.read(move |c| bindings::had_transcripts(c, home_id)).await?;
        // One that never was there is made with the first transcript.
        let is_doubt = |trouble: &Trouble| *trouble != Trouble::Missing || had_any;
        if let Some(trouble) = self.home_trouble(home_id).filter(is_doubt) {
            let what = format!(
                "whether the session {} has begun cannot be seen now: {}",
                session.short_id(),
                trouble.describe()
            );
            return Err(Fault::new(FaultCode::StatusUnknown, what)
                .hint("what the daemon sees: `sessctl doctor`"));
        }
        session.provider_session_id = None;
        Ok(row)
    }

    /// Brings leases of a home to the sessions that their processes have now: binds a session
    /// that waited for its id, and follows a process that has begun another one. Only who has just
    /// looked through the home knows which sessions were never written.
    pub(super) async fn follow_leases(
        self: &Arc<Self>,
        known: &KnownHome,
        was_seen: bool,
    ) -> Result<(), Fault> {
        let home_id = known.id;
        let leased = self
            .store
            .read(move |c| {
                let row = |lease: Lease| Ok((sessions::by_id(c, &lease.session_id)?, lease));
                leases::of_home(c, home_id)?.into_iter().map(row).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        if leased.is_empty() {
            return Ok(());
        }
        let look = move |known: &KnownHome| {
            let boot_id = process::boot_id();
            let alive = leased.into_iter().filter(|(_, lease)| is_alive(lease, &boot_id));
            let (starts, leased): (Vec<_>, Vec<_>) =
                alive.map(|(row, lease)| (row.and_then(|row| start(&row, &lease)), lease)).unzip();
            let starts: Vec<Start> = starts.into_iter().flatten().collect();
            let shown = known.provider.live(&known.home);
            let shown = shown.unwrap_or_else(|| known.provider.begun(&known.home, &starts));
            let seen = leased.into_iter();
            seen.filter_map(|lease| Some((shown_for(&shown, lease.pid)?.clone(), lease)))
                .collect::<Vec<_>>()
        };
        let seen = self.ask_home(known, LOOK, look).await?;
        for (shown, lease) in seen.unwrap_or_default() {
            let follow = move |tx: &Transaction<'_>| follow(tx, home_id, &lease, &shown, was_seen);
            if let Some(moved) = self.store.promise(follow).await? {
                self.watch_lease(moved);
            }
        }
        Ok(())
    }
}

/// The start of a session that waits for its id.
fn start(row: &Stored, lease: &Lease) -> Option<Start> {
    let launch_dir = row.session.launch_dir.clone();
    waits_for_id(&row.session).then_some(Start { pid: lease.pid, since: lease.since, launch_dir })
}

/// What a process with a lease runs now: itself, or the one process it has started for it.
fn shown_for(shown: &[LiveSession], pid: u32) -> Option<&LiveSession> {
    if let Some(own) = shown.iter().find(|live| live.live.pid == Some(pid)) {
        return Some(own);
    }
    let is_below =
        |live: &&LiveSession| live.live.pid.is_some_and(|below| process::is_below(below, pid));
    let mut below = shown.iter().filter(is_below);
    below.next().filter(|_| below.next().is_none())
}

/// Answers the lease that has moved, if it has.
fn follow(
    tx: &Transaction<'_>,
    home_id: i64,
    lease: &Lease,
    shown: &LiveSession,
    was_seen: bool,
) -> crate::store::Result<Option<Lease>> {
    let id = &shown.provider_session_id;
    let Some(row) = sessions::by_id(tx, &lease.session_id)? else { return Ok(None) };
    let scope = shown.scope.as_deref();
    let other = bindings::bound_to(tx, home_id, scope, id)?;
    match &row.session.provider_session_id {
        Some(old) if old == id => Ok(None),
        None if bind(tx, &row, scope, id)? => Ok(None),
        Some(_) if was_seen && waits_for_id(&row.session) && bind(tx, &row, scope, id)? => Ok(None),
        // Where its transcript is not there yet, the next sweep sees both.
        _ => match other {
            None => Ok(None),
            Some((other, _)) => leases::move_on(tx, lease, &other, now()).map(Some),
        },
    }
}

/// Gives a session that waits for it the provider's id, once; `false` if that belongs to an
/// older session, which the process has gone back to.
pub(super) fn bind(
    tx: &Transaction<'_>,
    row: &Stored,
    scope: Option<&str>,
    id: &str,
) -> crate::store::Result<bool> {
    let other = match bindings::bound_to(tx, row.home_id, scope, id)? {
        Some((other, _)) if other == row.session.id => return Ok(true),
        Some((_, since)) if since < row.session.created_at => return Ok(false),
        found => found.map(|(other, _)| other),
    };
    bindings::bind_now(tx, row, other.as_deref(), id, now())?;
    Ok(true)
}

/// True if the provider has still to say which session it is: one that it announced and then
/// never wrote is not there, and the next start gets another.
pub(super) fn waits_for_id(session: &Session) -> bool {
    let chooses = || {
        let provider = providers::by_id(&session.provider);
        provider.is_some_and(|provider| provider.capabilities().choose_id)
    };
    session.provider_session_id.is_none() || is_starting(session) && !chooses()
}
