//! Sweeps: finds what is new, changed or gone in each home.
//!
//! All homes of a provider are listed before any of them is imported: a home, a folder or a file
//! may be a link into another home, and each transcript gets one row (`names.rs`). Then each home
//! is imported, and what is gone from it is concluded (`gone.rs`).
//!
//! A sweep also moves the leases of processes that have changed their session: before the listing,
//! and again after it, when it is known which announced ids were never written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde::Serialize;
use sessd_proto::{Fault, Timestamp};

use super::Discovery;
use super::gone::folder_of;
use super::names::{self, Moves};
use crate::clock::now;
use crate::providers::{Basis, Gap, Listed, Listing, Retention, Unreadable};
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::registry::homes::{KnownHome, Remember, Trouble};
use crate::store::bindings;
use crate::store::files::{self, Seen};

/// The result of one sweep of one home.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sweep {
    provider: String,
    home: String,
    listed: usize,
    read: usize,
    pub(super) lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    unreadable: usize,
    ms: u64,
    #[serde(skip)]
    began: Timestamp,
}

impl Sweep {
    /// Returns the time from the listing of the home to the end of its sweep.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

/// One home during a sweep.
pub(super) struct Scan {
    pub(super) known: KnownHome,
    /// The transcripts to import, each under one name.
    pub(super) listed: Vec<Listed>,
    pub(super) gaps: Vec<Gap>,
    /// The transcripts of the last sweep.
    pub(super) seen: HashMap<String, Seen>,
    /// True if any transcript of this home was ever seen.
    had_any: bool,
    retention: Option<Retention>,
    /// The trouble that keeps the home from being listed at all.
    trouble: Option<Trouble>,
    started: Instant,
    /// The time at which the listing started.
    began: Timestamp,
}

impl Scan {
    /// True if the home could be listed.
    pub(super) fn is_listed(&self) -> bool {
        self.trouble.is_none()
    }

    /// True if the home could be listed completely, or does not exist.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.trouble, None | Some(Trouble::Missing)) && self.gaps.is_empty()
    }
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
        let mut by_provider = BTreeMap::<&str, Vec<KnownHome>>::new();
        for known in self.homes.known().await? {
            by_provider.entry(known.provider.id()).or_default().push(known);
        }
        let mut sweeps = Vec::new();
        let mut failed = None;
        for homes in by_provider.into_values() {
            let swept = self.sweep_together(homes).await;
            for sweep in swept.unwrap_or_else(|fault| vec![Err(fault)]) {
                match sweep {
                    Ok(sweep) => sweeps.push(sweep),
                    Err(fault) => _ = failed.get_or_insert(fault),
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

    /// Sweeps one home, and those of the same provider unless the last sweep of all of them has
    /// found that they have no transcript in common.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn sweep_home(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        let mut homes = self.homes.known().await?;
        let provider = known.provider.id();
        let is_apart = self.apart().get(provider).copied().unwrap_or_default();
        homes.retain(|other| match is_apart {
            true => other.id == known.id,
            false => other.provider.id() == provider,
        });
        let position = homes.iter().position(|other| other.id == known.id);
        let mut sweeps = self.sweep_together(homes).await?;
        let no_home = || Fault::internal("a home that is not known");
        sweeps.swap_remove(position.ok_or_else(no_home)?)
    }

    /// Sweeps the homes of one provider. A sweep that has started runs to its end even if the
    /// caller goes away: half an import would be repeated, and the memory it took would be kept.
    ///
    /// # Errors
    /// Fails if the registry cannot be read; a failure in one home is its own result.
    async fn sweep_together(
        self: &Arc<Self>,
        homes: Vec<KnownHome>,
    ) -> Result<Vec<Result<Sweep, Fault>>, Fault> {
        let one_at_a_time = Arc::clone(&self.sweeping).lock_owned().await;
        let discovery = Arc::clone(self);
        let sweep = async move {
            let _one_at_a_time = one_at_a_time;
            let sweeps = discovery.sweep_now(homes.clone()).await?;
            for known in &homes {
                let found = discovery.find_directories(known).await;
                let _ =
                    found.inspect_err(|fault| tracing::error!("search for a directory: {fault}"));
            }
            Ok(sweeps)
        };
        tokio::spawn(sweep).await.map_err(Fault::internal)?
    }

    /// Lists the homes, gives every transcript one name, and applies what was found in each.
    async fn sweep_now(
        self: &Arc<Self>,
        homes: Vec<KnownHome>,
    ) -> Result<Vec<Result<Sweep, Fault>>, Fault> {
        let scanned = join_all(homes.into_iter().map(|known| self.scan(known))).await;
        let (mut scans, mut failed) = (Vec::new(), Vec::new());
        for (position, scan) in scanned.into_iter().enumerate() {
            match scan {
                Ok(scan) => scans.push(scan),
                Err(fault) => failed.push((position, fault)),
            }
        }
        self.merge_names(&mut scans, failed.is_empty()).await?;
        let moves = names::moves(&scans);
        let mut sweeps = Vec::new();
        for scan in scans {
            let (provider, home) = (scan.known.provider.id(), scan.known.home.path.clone());
            let sweep = self.apply_scan(scan, &moves).await;
            if let Err(fault) = &sweep {
                tracing::error!("sweep of {provider} home {}: {fault}", home.display());
            }
            sweeps.push(sweep);
        }
        for (position, fault) in failed {
            tracing::error!("sweep: {fault}");
            sweeps.insert(position, Err(fault));
        }
        Ok(sweeps)
    }

    /// Lists a home, after its leases have followed their processes.
    async fn scan(self: &Arc<Self>, known: KnownHome) -> Result<Scan, Fault> {
        self.remember_imported(known.id).await?;
        self.follow_leases(&known, false).await?;
        let (started, began) = (Instant::now(), now());
        let scan = self.homes.ask(&known, LISTING_TIMEOUT, |known| {
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
        let (listing, retention, trouble) = match scan? {
            // Timed out: keep the trouble that `Homes::ask` has recorded.
            None => (Listing::default(), None, self.homes.trouble(home_id)),
            Some((Ok(listing), retention)) => (listing, retention, None),
            Some((Err(Unreadable::Missing), _)) => {
                (Listing::default(), None, Some(Trouble::Missing))
            }
            Some((Err(Unreadable::Denied(why)), _)) => {
                (Listing::default(), None, Some(Trouble::Unreadable(why)))
            }
        };
        let Listing { transcripts: listed, gaps } = listing;
        Ok(Scan { known, listed, gaps, seen, had_any, retention, trouble, started, began })
    }

    /// Imports what changed in a home, concludes what is gone, and stores the state of the home.
    async fn apply_scan(self: &Arc<Self>, scan: Scan, moves: &Moves) -> Result<Sweep, Fault> {
        let Scan { known, listed, mut gaps, seen, had_any, retention, trouble, started, began } =
            scan;
        let mut sweep = Sweep {
            provider: known.provider.id().to_owned(),
            home: known.home.path.to_string_lossy().into_owned(),
            listed: listed.len(),
            began,
            ..Sweep::default()
        };
        let trouble = match trouble {
            Some(trouble) => Some(trouble),
            None => {
                let found = (listed, seen, &mut gaps);
                self.apply_listing(&known, found, retention, moves, &mut sweep).await?
            }
        };
        self.follow_successions(&known).await?;
        self.follow_leases(&known, trouble.is_none() && gaps.is_empty()).await?;
        sweep.trouble = trouble.as_ref().map(Trouble::describe);
        sweep.unreadable = gaps.len();
        self.update_home(&known, trouble, gaps, had_any).await?;
        sweep.ms = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        Ok(sweep)
    }

    /// Imports what changed, then concludes what is gone. Adds the files that cannot be opened to
    /// the gaps.
    async fn apply_listing(
        &self,
        known: &KnownHome,
        (listed, mut seen, gaps): (Vec<Listed>, HashMap<String, Seen>, &mut Vec<Gap>),
        retention: Option<Retention>,
        moves: &Moves,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        let began = sweep.began;
        self.homes.update(known.id, |state| state.looked_at = Some(began));
        let is_new = seen.is_empty();
        let swept_at = retention.and_then(|it| it.swept_at);
        let folders = listed.iter().filter(|_| swept_at.is_some());
        let kept: HashSet<String> =
            folders.map(|entry| folder_of(&entry.location).to_owned()).collect();
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
        match self.import(known, changed, retention, moves).await? {
            Some(unopened) => gaps.extend(unopened),
            None => return Ok(self.homes.trouble(known.id)),
        }
        self.predict(known, retention, is_new).await?;
        let vanished = seen.into_keys().filter(|location| !moves.are_from(location)).collect();
        let trouble = self.conclude_gone(known, (vanished, gaps), (swept_at, &kept), sweep).await?;
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
            let rule = present.map_or((None, false), |(age, by)| (Some(age), by));
            let warning = (now(), 1000 * i64::from(self.config.heartbeat.expiring_s));
            let predict = move |tx: &rusqlite::Transaction<'_>| {
                bindings::predict_expiry(tx, home_id, rule, warning)
            };
            self.store.write(predict).await?;
        }
        self.homes.update(known.id, |state| state.retention = Some(present));
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
