//! Sweeps: what is new, changed or gone on disk comes into the registry here.
//!
//! "Gone" is never guessed: a session is gone only if its home could be listed and does not
//! have it. A sweep that would lose more than half of a home is held and reported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sessd_proto::{Fault, Kind, Status};

use super::Registry;
use super::homes::{HOME_REASONS, KnownHome, Trouble};
use super::patience::LISTING;
use crate::clock::now;
use crate::providers::{Basis, Listed, Retention, Unreadable};
use crate::store::files::{self, Seen};
use crate::store::{bindings, sessions};

/// Sessions that must vanish at once before the half rule applies; one is no pattern.
const LOSS_MIN: usize = 2;

/// What one sweep of one home did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sweep {
    provider: String,
    home: String,
    listed: usize,
    read: usize,
    lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    ms: u128,
}

impl Registry {
    /// Remembers the homes of the daemon's environment and of the configuration, then sweeps
    /// every home.
    ///
    /// # Errors
    /// Those of the store, that of one home after all others; trouble with one is part of its
    /// result.
    pub async fn sweep(self: &Arc<Self>) -> Result<Vec<Sweep>, Fault> {
        self.remember_homes(&self.env.all, false).await?;
        self.remember_homes(&self.env.base, true).await?;
        for (provider, paths) in &self.config.homes {
            for path in paths {
                self.remember_configured(provider, path).await?;
            }
        }
        let mut sweeps = Vec::new();
        let mut failed = None;
        for home in self.known_homes().await? {
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
        // Lists that wait for the first sweep come first. What a full disk has kept from being
        // made then is made after a later one.
        if is_first || self.store.is_being_filled() {
            let registry = Arc::clone(self);
            // A task of its own: a caller that goes away must not leave it undone.
            tokio::spawn(async move { registry.end_first_sweep().await });
        }
        failed.map_or(Ok(sweeps), Err)
    }

    /// Sweeps one home. What has begun is ended even if the caller goes away: half of an import
    /// would be made again, and keep the memory it took.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn sweep_home(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        let one_at_a_time = Arc::clone(&self.sweeping).lock_owned().await;
        let (registry, known) = (Arc::clone(self), known.clone());
        let sweep = async move {
            let _one_at_a_time = one_at_a_time;
            registry.sweep_whole(&known).await
        };
        tokio::spawn(sweep).await.map_err(Fault::internal)?
    }

    /// Stats first, then only what changed.
    async fn sweep_whole(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        self.remember_imported(known.id).await?;
        self.follow_leases(known, false).await?;
        let started = Instant::now();
        let mut sweep = Sweep {
            provider: known.provider.id().to_owned(),
            home: known.home.path.to_string_lossy().into_owned(),
            ..Sweep::default()
        };
        let scan = self.ask_home(known, LISTING, |known| {
            let discovery = known.provider.discovery();
            let retention = discovery.retention().and_then(|read| read(&known.home));
            (discovery.list(&known.home), retention)
        });
        let home_id = known.id;
        // What the last sweep saw comes from the store while the disk is listed.
        let seen = self.store.read_slowly(move |c| {
            Ok((files::of_home(c, home_id)?, bindings::had_transcripts(c, home_id)?))
        });
        let (scan, seen) = tokio::join!(scan, seen);
        let (seen, had_any) = seen?;
        let trouble = match scan? {
            // As bad as it was, or as asking it has found it.
            None => self.home_trouble(known.id),
            Some((Err(Unreadable::Missing), _)) => Some(Trouble::Missing),
            Some((Err(Unreadable::Denied(why)), _)) => Some(Trouble::Unreadable(why)),
            Some((Ok(listed), retention)) => {
                sweep.listed = listed.len();
                self.take_in(known, (listed, seen), retention, &mut sweep).await?
            }
        };
        self.follow_leases(known, trouble.is_none()).await?;
        sweep.trouble = trouble.as_ref().map(Trouble::describe);
        self.settle(known, trouble, had_any).await?;
        sweep.ms = started.elapsed().as_millis();
        Ok(sweep)
    }

    /// Reads what changed, then looks at what is not there any more.
    async fn take_in(
        &self,
        known: &KnownHome,
        (listed, mut seen): (Vec<Listed>, HashMap<String, Seen>),
        retention: Option<Retention>,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        let is_new = seen.is_empty();
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
        // In a home that is new, every session gets its prediction here.
        if !self.absorb(known, changed, retention).await? {
            return Ok(self.home_trouble(known.id));
        }
        self.predict(known, retention, is_new).await?;
        let vanished: HashSet<String> = seen.into_keys().collect();
        self.bury(known, vanished, sweep).await
    }

    /// Predicts anew when the provider's settings are not those of the last sweep.
    async fn predict(
        &self,
        known: &KnownHome,
        retention: Option<Retention>,
        is_new: bool,
    ) -> Result<(), Fault> {
        let present = retention.map(|r| (r.age_ms, r.basis == Basis::Modified));
        let before = self.home_state(known.id).retention;
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
        self.set_home_state(known.id, |state| state.retention = Some(present));
        Ok(())
    }

    /// Concludes that sessions are gone, unless so many vanished that the home is in doubt.
    async fn bury(
        &self,
        known: &KnownHome,
        vanished: HashSet<String>,
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
        // A loss that was predicted raises no doubt.
        let now = now();
        let surprising = lost
            .iter()
            .filter(|row| row.session.status != Status::Expired)
            .filter(|row| row.session.kind != Kind::Subagent)
            .filter(|row| row.session.expires_at.is_none_or(|at| at > now))
            .count();
        let of = usize::try_from(of).unwrap_or(usize::MAX);
        if surprising >= LOSS_MIN && surprising * 2 > of {
            return Ok(Some(Trouble::Held { lost: surprising, of }));
        }
        sweep.lost = lost.len();
        for row in lost {
            let verdict = self.ask(known, &row).await?;
            self.keep(&row, verdict).await?;
        }
        self.store
            .write(move |tx| vanished.iter().try_for_each(|path| files::forget(tx, home_id, path)))
            .await?;
        Ok(None)
    }

    /// Remembers the state of a home; one that is well again gets its verdicts back.
    async fn settle(
        &self,
        known: &KnownHome,
        trouble: Option<Trouble>,
        had_any: bool,
    ) -> Result<(), Fault> {
        let before = self.home_state(known.id).trouble;
        if let Some(trouble) = &trouble
            && before.as_ref() != Some(trouble)
            && *trouble != Trouble::Missing
        {
            let home = known.home.path.display();
            tracing::warn!("{} home {home}: {}", known.provider.id(), trouble.describe());
        }
        let well = trouble.is_none();
        self.set_home_state(known.id, |state| state.trouble = trouble);
        if well && had_any && (before.is_some() || !self.has_swept()) {
            let home_id = known.id;
            let rows = self
                .store
                .read_slowly(move |c| {
                    sessions::by_seqs(c, sessions::held_back(c, home_id, HOME_REASONS)?)
                })
                .await?;
            for row in rows {
                let verdict = self.ask(known, &row).await?;
                self.keep(&row, verdict).await?;
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

    /// So many that the first import leaves for later what it has seen of their files.
    const MANY: usize = 2_100;

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
    async fn a_home_that_cannot_be_written_down_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let [bad, good] = ["bad", "good"].map(|name| dir.path().join(name));
        let registry = Registry::of_folder(dir.path()).await;
        for home in [&bad, &good] {
            write_sessions(home, 1);
            registry.remember_configured("claude", home).await.unwrap();
        }
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON bindings WHEN new.location LIKE
            '%/bad/%' BEGIN SELECT raise(ABORT, 'refused'); END";
        registry.store().write(|tx| Ok(tx.execute_batch(refuse)?)).await.unwrap();
        registry.sweep().await.unwrap_err();
        assert!(!registry.has_swept());
        let [found] = &registry.newest_resumable("/").await.map(|row| [row]).unwrap();
        assert!(registry.resolve(&found.session.id).await.is_ok());
        registry.resolve("another").await.unwrap_err();
        while registry.store().is_being_filled() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_first_import_is_made_once_even_if_its_caller_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        write_sessions(&dir.path().join(".claude"), MANY);
        let registry = Registry::of_folder(dir.path()).await;
        registry.remember_homes(&registry.env.base, true).await.unwrap();
        let homes = registry.known_homes().await.unwrap();
        let known = homes.into_iter().find(|known| known.provider.id() == "claude").unwrap();
        timeout(Duration::ZERO, registry.sweep_home(&known)).await.unwrap_err();
        let again = registry.sweep_home(&known).await.unwrap();
        assert_eq!((again.listed, again.read), (MANY, 0));
        let count = move |c: &rusqlite::Connection| bindings::count_in_home(c, known.id);
        assert_eq!(registry.store().read(count).await.unwrap(), MANY as i64);
    }

    #[tokio::test]
    async fn indexes_that_could_not_be_made_after_the_first_sweep_are_made_after_another() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of_folder(dir.path()).await;
        registry.swept.send_replace(true);
        assert!(registry.store().is_being_filled());
        registry.sweep().await.unwrap();
        while registry.store().is_being_filled() {
            tokio::task::yield_now().await;
        }
    }
}
