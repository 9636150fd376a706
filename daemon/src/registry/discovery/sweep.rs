//! Sweeps: finds what is new, changed or gone in each home.
//!
//! "Gone" is never guessed: a session is gone only if its home could be listed and does not
//! have it. A sweep that would lose more than half of a home is held and reported. A sweep also
//! moves the leases of processes that have changed their session: before the listing, and again
//! after it, when it is known which announced ids were never written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sessd_proto::{Fault, Kind, Status, Timestamp};

use super::Discovery;
use crate::clock::now;
use crate::providers::{Basis, Listed, Retention, Unreadable};
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::registry::homes::{HOME_REASONS, KnownHome, Remember, Trouble};
use crate::store::files::{self, Seen};
use crate::store::sessions::Stored;
use crate::store::{bindings, sessions};

/// Sessions that must vanish at once before the half rule applies; one is not a pattern.
const LOSS_MIN: usize = 2;

/// The result of one sweep of one home.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sweep {
    provider: String,
    home: String,
    listed: usize,
    read: usize,
    lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    ms: u128,
    #[serde(skip)]
    began: Timestamp,
}

impl Discovery {
    /// Remembers the homes of the daemon's environment and of the configuration, then sweeps
    /// every home.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written; a failure in one home is returned after
    /// all other homes were swept. Trouble with a home's disk is part of its result, not an error.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Result<Vec<Sweep>, Fault> {
        self.homes.remember(&self.env.all, Remember::All).await?;
        self.homes.remember(&self.env.base, Remember::Existing).await?;
        for (provider, paths) in &self.config.homes {
            for path in paths {
                self.homes.remember_configured(provider, path).await?;
            }
        }
        let mut sweeps = Vec::new();
        let mut failed = None;
        for home in self.homes.known().await? {
            match self.sweep_home(&home).await {
                Ok(sweep) => sweeps.push(sweep),
                Err(fault) => {
                    let path = home.home.path.display();
                    tracing::error!("sweep of {} home {path}: {fault}", home.provider.id());
                    failed.get_or_insert(fault);
                }
            }
        }
        let is_first = !self.has_swept();
        if failed.is_none() {
            self.swept.send_replace(true);
        }
        // After the listings that wait for the first sweep. Whatever a full disk prevents then
        // is done after a later sweep.
        if is_first || self.store.is_first_import() {
            let discovery = Arc::clone(self);
            // A task of its own, so that it ends even if the caller goes away.
            tokio::spawn(async move { discovery.end_first_sweep().await });
        }
        failed.map_or(Ok(sweeps), Err)
    }

    /// Sweeps one home. A sweep that has started runs to its end even if the caller goes away:
    /// half an import would be repeated, and the memory it took would be kept.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn sweep_home(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        let one_at_a_time = Arc::clone(&self.sweeping).lock_owned().await;
        let (discovery, known) = (Arc::clone(self), known.clone());
        let sweep = async move {
            let _one_at_a_time = one_at_a_time;
            let sweep = discovery.sweep_now(&known).await?;
            discovery.find_directories(&known).await?;
            Ok(sweep)
        };
        tokio::spawn(sweep).await.map_err(Fault::internal)?
    }

    /// Lists the home, imports what changed, and concludes what is gone.
    async fn sweep_now(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        self.remember_imported(known.id).await?;
        self.follow_leases(known, false).await?;
        let started = Instant::now();
        let mut sweep = Sweep {
            provider: known.provider.id().to_owned(),
            home: known.home.path.to_string_lossy().into_owned(),
            began: now(),
            ..Sweep::default()
        };
        let scan = self.homes.ask(known, LISTING_TIMEOUT, |known| {
            let discovery = known.provider.discovery();
            let retention = discovery.retention().and_then(|read| read(&known.home));
            (discovery.list(&known.home), retention)
        });
        let home_id = known.id;
        // The store returns what the last sweep saw while the disk is being listed.
        let seen = self.store.read_slowly(move |c| {
            Ok((files::of_home(c, home_id)?, bindings::had_transcripts(c, home_id)?))
        });
        let (scan, seen) = tokio::join!(scan, seen);
        let (seen, had_any) = seen?;
        let trouble = match scan? {
            // Timed out: keep the trouble that `Homes::ask` has recorded.
            None => self.homes.trouble(known.id),
            Some((Err(Unreadable::Missing), _)) => Some(Trouble::Missing),
            Some((Err(Unreadable::Denied(why)), _)) => Some(Trouble::Unreadable(why)),
            Some((Ok(listed), retention)) => {
                sweep.listed = listed.len();
                self.apply_listing(known, (listed, seen), retention, &mut sweep).await?
            }
        };
        self.follow_leases(known, trouble.is_none()).await?;
        sweep.trouble = trouble.as_ref().map(Trouble::describe);
        self.update_home(known, trouble, had_any).await?;
        sweep.ms = started.elapsed().as_millis();
        Ok(sweep)
    }

    /// Imports what changed, then concludes what is gone.
    async fn apply_listing(
        &self,
        known: &KnownHome,
        (listed, mut seen): (Vec<Listed>, HashMap<String, Seen>),
        retention: Option<Retention>,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        let began = sweep.began;
        let is_new = seen.is_empty();
        let listed_any = !listed.is_empty();
        let mut changed = Vec::new();
        for entry in listed {
            let stamp = &entry.stamp;
            let new = (stamp.size, stamp.mtime_ns, stamp.inode);
            if seen.remove(&entry.location) != Some(new) {
                changed.push(entry);
            }
        }
        sweep.read = changed.len();
        // Oldest first: new rows then go to the end of most indexes, which is twice as fast.
        changed.sort_unstable_by_key(|entry| entry.stamp.mtime_ns);
        // In a new home every session gets its predicted expiry here.
        if !self.import(known, changed, retention).await? {
            return Ok(self.homes.trouble(known.id));
        }
        self.predict(known, retention, is_new).await?;
        let vanished: HashSet<String> = seen.into_keys().collect();
        let swept_at = retention.and_then(|it| it.swept_at).filter(|_| listed_any);
        let trouble = self.conclude_gone(known, vanished, swept_at, sweep).await?;
        if trouble.is_none() {
            self.homes.update(known.id, |state| state.listed_at = Some(began));
        }
        Ok(trouble)
    }

    /// Recomputes predicted expiry when the provider's retention settings changed.
    async fn predict(
        &self,
        known: &KnownHome,
        retention: Option<Retention>,
        is_new: bool,
    ) -> Result<(), Fault> {
        let present = retention.map(|r| (r.age_ms, r.basis == Basis::Modified));
        let before = self.homes.state(known.id).retention;
        if before == Some(present) {
            return Ok(());
        }
        if !is_new {
            let home_id = known.id;
            let (age_ms, modified) = present.map_or((None, false), |(age, by)| (Some(age), by));
            let predict = move |tx: &rusqlite::Transaction<'_>| {
                bindings::predict_expiry(tx, home_id, age_ms, modified)
            };
            self.store.write(predict).await?;
        }
        self.homes.update(known.id, |state| state.retention = Some(present));
        Ok(())
    }

    /// Concludes that sessions are gone, unless so many vanished that the home is in doubt.
    /// `swept_at` is when the provider itself last deleted sessions and left some: its deletions
    /// since the last listing raise no doubt, by whatever settings it made them.
    async fn conclude_gone(
        &self,
        known: &KnownHome,
        vanished: HashSet<String>,
        swept_at: Option<Timestamp>,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        if vanished.is_empty() {
            return Ok(None);
        }
        let (home_id, paths) = (known.id, vanished.clone());
        let (lost, of) = self
            .store
            .read_slowly(move |c| {
                let lost = bindings::at_locations(c, home_id, &paths)?;
                Ok((sessions::by_seqs(c, lost)?, bindings::count_in_home(c, home_id)?))
            })
            .await?;
        // A predicted loss does not raise doubt.
        let now = now();
        let listed_at = self.homes.state(known.id).listed_at;
        let was_swept = |row: &Stored| {
            let seen_at = listed_at.or(row.session.checked_at);
            swept_at.is_some_and(|swept| seen_at.is_some_and(|seen| seen < swept))
        };
        let surprising = lost
            .iter()
            .filter(|row| row.session.status != Status::Expired)
            .filter(|row| row.session.kind != Kind::Subagent)
            .filter(|row| row.session.expires_at.is_none_or(|at| at > now))
            .filter(|row| !was_swept(row))
            .count();
        let of = usize::try_from(of).unwrap_or(usize::MAX);
        if surprising >= LOSS_MIN && surprising * 2 > of {
            return Ok(Some(Trouble::Held { lost: surprising, of }));
        }
        sweep.lost = lost.len();
        for row in lost {
            let verdict = self.verdict_of(known, &row).await?;
            self.store_verdict(&row, verdict).await?;
        }
        self.store
            .write(move |tx| vanished.iter().try_for_each(|path| files::forget(tx, home_id, path)))
            .await?;
        Ok(None)
    }

    /// Stores the state of a home; when a home has recovered, its sessions are judged again.
    async fn update_home(
        &self,
        known: &KnownHome,
        trouble: Option<Trouble>,
        had_any: bool,
    ) -> Result<(), Fault> {
        let before = self.homes.state(known.id).trouble;
        if let Some(trouble) = &trouble
            && before.as_ref() != Some(trouble)
            && *trouble != Trouble::Missing
        {
            let home = known.home.path.display();
            tracing::warn!("{} home {home}: {}", known.provider.id(), trouble.describe());
        }
        let well = trouble.is_none();
        self.homes.update(known.id, |state| state.trouble = trouble);
        if well && had_any && (before.is_some() || !self.has_swept()) {
            let home_id = known.id;
            let rows = self
                .store
                .read_slowly(move |c| {
                    sessions::by_seqs(c, sessions::held_back(c, home_id, HOME_REASONS)?)
                })
                .await?;
            for row in rows {
                let verdict = self.verdict_of(known, &row).await?;
                self.store_verdict(&row, verdict).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::registry::Registry;

    /// Enough transcripts that the first import stores what it has seen of their files later.
    const IMPORT_FILES: usize = 2_100;

    fn write_sessions(home: &Path, count: usize) {
        let project = home.join("projects/-x");
        fs::create_dir_all(&project).unwrap();
        for _ in 0..count {
            let record = r#"{"type":"user","timestamp":"2026-01-02T03:04:05Z","cwd":"/",
                "message":{"role":"user","content":"Hello"}}"#;
            let name = format!("{}.jsonl", Uuid::new_v4());
            fs::write(project.join(name), record.replace('\n', "")).unwrap();
        }
    }

    #[tokio::test]
    async fn home_that_cannot_be_stored_does_not_block_others() {
        let dir = tempfile::tempdir().unwrap();
        let [bad, good] = ["bad", "good"].map(|name| dir.path().join(name));
        let registry = Registry::of_folder(dir.path()).await;
        for home in [&bad, &good] {
            write_sessions(home, 1);
            registry.homes.remember_configured("claude", home).await.unwrap();
        }
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON bindings WHEN new.location LIKE
            '%/bad/%' BEGIN SELECT raise(ABORT, 'refused'); END";
        registry.store().write(|tx| Ok(tx.execute_batch(refuse)?)).await.unwrap();
        registry.discovery.sweep().await.unwrap_err();
        assert!(!registry.discovery.has_swept());
        let [found] = &registry.sessions.newest_resumable("/").await.map(|row| [row]).unwrap();
        assert!(registry.sessions.resolve(&found.session.id).await.is_ok());
        registry.sessions.resolve("another").await.unwrap_err();
        while registry.store().is_first_import() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn first_import_runs_once_even_if_its_caller_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        write_sessions(&dir.path().join(".claude"), IMPORT_FILES);
        let registry = Registry::of_folder(dir.path()).await;
        registry.homes.remember(&registry.env.base, Remember::Existing).await.unwrap();
        let homes = registry.homes.known().await.unwrap();
        let known = homes.into_iter().find(|known| known.provider.id() == "claude").unwrap();
        timeout(Duration::ZERO, registry.discovery.sweep_home(&known)).await.unwrap_err();
        let again = registry.discovery.sweep_home(&known).await.unwrap();
        assert_eq!((again.listed, again.read), (IMPORT_FILES, 0));
        let count = move |c: &rusqlite::Connection| bindings::count_in_home(c, known.id);
        assert_eq!(registry.store().read(count).await.unwrap(), IMPORT_FILES as i64);
    }

    #[tokio::test]
    async fn missing_indexes_are_made_after_a_later_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of_folder(dir.path()).await;
        registry.discovery.swept.send_replace(true);
        assert!(registry.store().is_first_import());
        registry.discovery.sweep().await.unwrap();
        while registry.store().is_first_import() {
            tokio::task::yield_now().await;
        }
    }
}
