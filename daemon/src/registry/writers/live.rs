//! Live state: which process has a session open at this moment. Read on demand, never stored.

use std::collections::HashMap;

use futures::future::try_join_all;
use sessd_proto::{Fault, LeaseKind, Live, LiveState, Session};

use super::Writers;
use super::leases::{is_alive, live_of};
use crate::process;
use crate::providers::LiveSession;
use crate::registry::homes::{KnownHome, Shown, known_home};
use crate::store::leases::{self, Lease};
use crate::store::sessions::{self as rows, Stored};
use crate::store::{bindings, selector, twins};

/// A snapshot of all running sessions: our leases, and the live state that each provider shows.
#[derive(Debug, Default)]
struct Running {
    leases: HashMap<String, Lease>,
    homes: HashMap<i64, Shown>,
}

impl Writers {
    /// Returns sessions as callers see them: stored rows with their live state.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn with_live(&self, found: Vec<Stored>) -> Result<Vec<Session>, Fault> {
        let mut home_ids: Vec<i64> = found.iter().map(|row| row.home_id).collect();
        home_ids.sort_unstable();
        home_ids.dedup();
        let running = self.snapshot(|known| home_ids.contains(&known.id)).await?;
        let live = |row: Stored| Session { live: running.of(&row), ..row.session };
        Ok(found.into_iter().map(live).collect())
    }

    /// Returns the live state of one session.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn live(&self, row: &Stored) -> Result<Live, Fault> {
        Ok(self.snapshot(|known| known.id == row.home_id).await?.of(row))
    }

    /// Returns all sessions that a process has open now.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn running(&self) -> Result<Vec<Stored>, Fault> {
        let running = self.snapshot(|_| true).await?;
        let mut ids: Vec<String> = running.leases.keys().cloned().collect();
        let shown = running.homes.values().flat_map(|shown| &shown.sessions);
        ids.extend(shown.map(|live| live.provider_session_id.clone()));
        let mut found = self
            .store
            .read(move |c| {
                let mut seqs = Vec::new();
                for id in &ids {
                    seqs.extend(selector::resolve(c, id)?);
                }
                seqs.sort_unstable();
                seqs.dedup();
                rows::by_seqs(c, seqs)
            })
            .await?;
        Vec::retain(&mut found, |row| running.of(row).blocks());
        Ok(found)
    }

    /// Reads the leases, and the live state of the wanted homes.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    async fn snapshot(&self, wanted: impl Fn(&KnownHome) -> bool) -> Result<Running, Fault> {
        let (homes, leases, twins) =
            self.store.read(|c| Ok((bindings::homes(c)?, leases::all(c)?, twins::all(c)?))).await?;
        let homes: Vec<_> = homes.into_iter().filter_map(known_home).filter(wanted).collect();
        let boot_id = process::boot_id();
        let alive = leases.into_iter().filter(|lease| is_alive(lease, &boot_id));
        let mut leases: HashMap<_, _> =
            alive.map(|lease| (lease.session_id.clone(), lease)).collect();
        let of_twin = |(id, writer)| Some((writer, leases.get(id)?.clone()));
        let by_writer: HashMap<&String, _> = twins.iter().filter_map(of_twin).collect();
        for (id, writer) in &twins {
            if let Some(lease) = by_writer.get(writer) {
                leases.entry(id.clone()).or_insert_with(|| lease.clone());
            }
        }
        // Concurrently: one home that hangs must not delay the others.
        let live = homes.iter().map(|known| async move {
            let shown = self.homes.ask_live(known).await;
            shown.map(|shown| (known.id, shown))
        });
        let homes = try_join_all(live).await?.into_iter().collect();
        Ok(Running { leases, homes })
    }
}

impl Running {
    /// Returns the live state of a session. The view of the provider is finer than our lease, so it
    /// wins; the lease is the fallback.
    fn of(&self, row: &Stored) -> Live {
        let shown = self.homes.get(&row.home_id);
        let id = row.session.provider_session_id.as_deref();
        let is_it = |live: &&LiveSession| {
            id == Some(&*live.provider_session_id)
                && live.scope.as_ref().is_none_or(|scope| *scope == row.scope)
        };
        let mut sessions = shown.into_iter().flat_map(|shown| &shown.sessions);
        let found = sessions.find(is_it).map(|found| &found.live);
        if let Some(found) = found.filter(|live| live.blocks()) {
            return found.clone();
        }
        match self.leases.get(&row.session.id) {
            Some(lease) if lease.kind == LeaseKind::Turn => {
                Live { state: LiveState::Busy, ..live_of(lease) }
            }
            Some(lease) => live_of(lease),
            // A process that is out of sight may have it: then the state is `unknown`.
            None if shown.is_some_and(|shown| shown.is_whole) && found.is_none() => {
                Live { state: LiveState::None, ..Live::default() }
            }
            None => Live::default(),
        }
    }
}
