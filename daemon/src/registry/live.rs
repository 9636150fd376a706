//! Live state: who runs a session at this moment. Read when asked for, never stored.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use sessd_proto::{Fault, Live, LiveState, Session};

use super::Registry;
use super::homes::KnownHome;
use super::patience::LOOK;
use crate::process;
use crate::providers::LiveSession;
use crate::store::leases::{self, Lease};
use crate::store::selector;
use crate::store::sessions::{self as rows, Stored};

/// Who runs what: our leases, and what each provider shows of its home.
#[derive(Debug, Default)]
pub(super) struct Running {
    leases: HashMap<String, Lease>,
    homes: HashMap<i64, Option<Vec<LiveSession>>>,
}

impl Registry {
    /// The sessions as callers see them.
    pub(super) async fn with_live(
        self: &Arc<Self>,
        found: Vec<Stored>,
    ) -> Result<Vec<Session>, Fault> {
        let mut home_ids: Vec<i64> = found.iter().map(|row| row.home_id).collect();
        home_ids.sort_unstable();
        home_ids.dedup();
        let running = self.look(|known| home_ids.contains(&known.id)).await?;
        let live = |row: Stored| Session { live: running.of(&row), ..row.session };
        Ok(found.into_iter().map(live).collect())
    }

    /// Who runs one session now.
    pub(super) async fn live(self: &Arc<Self>, row: &Stored) -> Result<Live, Fault> {
        Ok(self.look(|known| known.id == row.home_id).await?.of(row))
    }

    /// The rows of all sessions that somebody runs now.
    pub(super) async fn running(self: &Arc<Self>) -> Result<Vec<Stored>, Fault> {
        let running = self.look(|_| true).await?;
        let mut ids: Vec<String> = running.leases.keys().cloned().collect();
        let shown = running.homes.values().flatten().flatten();
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

    async fn look(&self, wanted: impl Fn(&KnownHome) -> bool) -> Result<Running, Fault> {
        let (homes, leases) =
            self.store.read(|c| Ok((crate::store::bindings::homes(c)?, leases::all(c)?))).await?;
        let homes: Vec<_> =
            homes.into_iter().filter_map(super::homes::known_home).filter(wanted).collect();
        let boot_id = process::boot_id();
        let alive = leases.into_iter().filter(|lease| is_alive(lease, &boot_id));
        let leases = alive.map(|lease| (lease.session_id.clone(), lease)).collect();
        // All at once: they do not wait for the one that hangs.
        let live = homes.iter().map(|known| async move {
            let shown = self
                .ask_home(known, LOOK, |known| known.provider.discovery().live()?(&known.home))
                .await;
            shown.map(|shown| (known.id, shown.flatten()))
        });
        let homes = try_join_all(live).await?.into_iter().collect();
        Ok(Running { leases, homes })
    }
}

impl Running {
    /// What the provider shows is finer than our lease; our lease is surer than nothing.
    fn of(&self, row: &Stored) -> Live {
        let shown = self.homes.get(&row.home_id).and_then(Option::as_ref);
        let id = row.session.provider_session_id.as_deref();
        let is_it = |live: &&LiveSession| {
            id == Some(&*live.provider_session_id)
                && live.scope.as_ref().is_none_or(|scope| *scope == row.scope)
        };
        if let Some(found) = shown.into_iter().flatten().find(is_it) {
            return found.live.clone();
        }
        match self.leases.get(&row.session.id) {
            Some(lease) => Live {
                state: if lease.kind == "turn" { LiveState::Busy } else { LiveState::Open },
                pid: Some(lease.pid),
                what: process::command(lease.pid),
                since: Some(lease.since),
            },
            None if shown.is_some() => Live { state: LiveState::None, ..Live::default() },
            None => Live::default(),
        }
    }
}

/// True if the process that took the lease still runs.
pub(super) fn is_alive(lease: &Lease, boot_id: &str) -> bool {
    lease.boot_id == boot_id && process::start_ticks(lease.pid) == Some(lease.start_ticks)
}
