//! Imports: reads the metadata of transcripts in batches and stores it, both at the same time.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::{iter, mem};

use futures::{StreamExt, TryStreamExt, stream};
use rusqlite::Transaction;
use sessd_proto::{Facts, Fault, Reason, Timestamp};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Discovery;
use super::names::Moves;
use crate::clock::now;
use crate::failpoint;
use crate::providers::{self, Basis, Found, Gap, Listed, Reader, Retention, Version};
use crate::registry::homes::KnownHome;
use crate::registry::homes::directories::DirCache;
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::store::import::{FoundSession, Import};
use crate::store::{self, files};
use crate::system;

/// Batches that are read at the same time, one less than a home's gate admits, so that a check is
/// never shut out by an import.
const READERS: usize = 3;

/// Transcripts from which on an import is large: indexes are deferred and memory is given back.
const LARGE_IMPORT: usize = 2_000;

/// Transcripts that one blocking call reads.
const READ_BATCH: usize = 200;

/// Most transcripts in one transaction, as long as no other caller waits for the store.
const WRITE_BATCH: usize = 4_000;

/// Fewest transcripts in one transaction while more are being read: a smaller one changes nearly
/// as many database pages.
const WRITE_BATCH_MIN: usize = 1_000;

/// A time further in the future than this, in milliseconds, is a clock's error.
const CLOCK_ERROR_MS: i64 = 24 * 60 * 60 * 1_000;

/// The namespace of the ids of discovered sessions: the same transcript always gets the same id.
const NAMESPACE: Uuid = Uuid::from_u128(0x7365_7373_6400_5f64_8973_636f_7665_7264);

impl Discovery {
    /// Reads transcripts and stores their metadata, both at the same time. Returns those that
    /// cannot be opened, which the next sweep tries again; `None` if the home hangs.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub(super) async fn import(
        &self,
        known: &KnownHome,
        changed: Vec<Listed>,
        retention: Option<Retention>,
        moves: &Moves,
    ) -> Result<Option<Vec<Gap>>, Fault> {
        if changed.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let is_large = changed.len() > LARGE_IMPORT;
        if is_large {
            self.store.begin_import().await?;
        }
        let is_first = !self.has_swept();
        // While a registry is filled for the first time, nothing needs the stamps earlier.
        let files_later = is_large && is_first && self.store.is_first_import();
        let (read, rows) = mpsc::channel(WRITE_BATCH / 2 / READ_BATCH);
        let reading = self.read_all(known, changed, (retention, moves), read);
        let writing = self.remember_all(known.id, rows, files_later);
        let (read, written) = tokio::join!(reading, writing);
        // The first sweep finishes its imports itself, after the listings that wait for it.
        if is_large && !is_first {
            self.end_import().await;
        }
        written?;
        read
    }

    /// Builds deferred indexes and gives memory back.
    async fn end_import(&self) {
        if let Err(error) = self.store.end_import().await {
            tracing::warn!("after an import: {error}");
        }
        system::give_back_memory();
    }

    /// Does the work that the first sweep has deferred: stores stamps, builds indexes, frees
    /// memory.
    pub(crate) async fn end_first_sweep(&self) {
        let homes: Vec<i64> = self.imported().keys().copied().collect();
        for home_id in homes {
            let _one_at_a_time = self.sweeping.lock().await;
            if let Err(error) = self.remember_imported(home_id).await {
                tracing::warn!("after an import: {error}");
            }
        }
        self.end_import().await;
    }

    fn imported(&self) -> MutexGuard<'_, HashMap<i64, Vec<Listed>>> {
        self.imported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the stamps that the first sweep has collected in a home, in table order. Every later
    /// sweep of that home calls this first: a transcript without a stamp would be read again.
    ///
    /// # Errors
    /// Fails if the registry cannot be written; the stamps are then kept for the next attempt.
    pub(crate) async fn remember_imported(&self, home_id: i64) -> Result<(), Fault> {
        let mut files = self.imported().remove(&home_id).unwrap_or_default();
        files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        while !files.is_empty() {
            let rest = files.split_off(files.len().min(WRITE_BATCH_MIN));
            let some = Arc::new(mem::replace(&mut files, rest));
            let seen = Arc::clone(&some);
            let remember = move |tx: &Transaction<'_>| {
                seen.iter().try_for_each(|seen| remember_file(tx, home_id, seen))
            };
            if let Err(error) = self.store.write(remember).await {
                files.extend(some.iter().cloned());
                self.imported().insert(home_id, files);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Reads transcripts batch by batch.
    async fn read_all(
        &self,
        known: &KnownHome,
        changed: Vec<Listed>,
        (retention, moves): (Option<Retention>, &Moves),
        into: mpsc::Sender<Vec<Row>>,
    ) -> Result<Option<Vec<Gap>>, Fault> {
        let new_reader = |known: &KnownHome| known.provider.discovery().reader_of(&known.home);
        let reader = self.homes.ask(known, LISTING_TIMEOUT, new_reader).await?;
        let Some(reader) = reader else { return Ok(None) };
        let reader: Arc<dyn Reader> = Arc::from(reader);
        let mut changed = changed.into_iter();
        let batches = iter::from_fn(|| {
            let batch: Vec<_> = changed.by_ref().take(READ_BATCH).collect();
            (!batch.is_empty()).then_some(batch)
        });
        // The next batch is read while this one becomes rows; the order is kept.
        let read = |batch| self.read_batch(known, Arc::clone(&reader), batch);
        let mut batches = stream::iter(batches).map(read).buffered(READERS);
        let version = self.homes.version(known.provider, None).await?;
        let mut dirs = DirCache::new();
        let mut unopened = Vec::new();
        while let Some(read) = batches.try_next().await? {
            let Some((mut read, gaps)) = read else { return Ok(None) };
            unopened.extend(gaps);
            self.look_up_directories(known, &mut read, &mut dirs).await?;
            let row = |(entry, found): (Listed, Option<Found>)| {
                found.iter().for_each(|found| self.note_succession(known.id, found));
                let found =
                    found.map(|found| to_row(known, &entry, found, (retention, version), &dirs));
                let moved_from = moves.to(&entry.location).cloned();
                let found = found.map(|found| FoundSession { moved_from, ..found });
                (entry, found)
            };
            if into.send(read.into_iter().map(row).collect()).await.is_err() {
                // The writing half has failed and returns the error.
                break;
            }
        }
        Ok(Some(unopened))
    }

    /// Looks up the launch directories of a batch. Where the scope of a session is made of another
    /// directory than the one in its records, that directory takes its place.
    async fn look_up_directories(
        &self,
        known: &KnownHome,
        read: &mut [Read],
        dirs: &mut DirCache,
    ) -> Result<(), Fault> {
        let directories = &self.homes.directories;
        if let Some(scope_of) = known.provider.discovery().scope_of() {
            let mut renamed: HashMap<String, Option<String>> = HashMap::new();
            for found in read.iter_mut().filter_map(|(_, found)| found.as_mut()) {
                let Facts { launch_dir, scope, .. } = &mut found.facts;
                if scope_of(launch_dir) == *scope {
                    continue;
                }
                if !renamed.contains_key(scope) {
                    let found = directories.by_scope(scope, scope_of).await?;
                    renamed.insert(scope.clone(), found);
                }
                if let Some(Some(dir)) = renamed.get(scope) {
                    launch_dir.clone_from(dir);
                }
            }
        }
        let found = read.iter().filter_map(|(_, found)| Some(&found.as_ref()?.facts.launch_dir));
        directories.look_up(found, dirs).await
    }

    /// Reads one batch; `None` if the home hangs.
    async fn read_batch(
        &self,
        known: &KnownHome,
        reader: Arc<dyn Reader>,
        batch: Vec<Listed>,
    ) -> Result<Option<(Vec<Read>, Vec<Gap>)>, Fault> {
        let read = move |_: &KnownHome| read_together(&*reader, batch);
        self.homes.ask(known, LISTING_TIMEOUT, read).await
    }

    /// Stores rows as they arrive, in transactions as large as possible: one large transaction
    /// changes fewer pages than many small ones. When another caller waits for the store, the
    /// transaction ends early and the rest is left for the next one.
    async fn remember_all(
        &self,
        home_id: i64,
        mut read: mpsc::Receiver<Vec<Row>>,
        files_later: bool,
    ) -> Result<(), Fault> {
        const CHUNK_ROWS: usize = 200;
        let mut rows = VecDeque::new();
        loop {
            while rows.len() < WRITE_BATCH {
                let more = if rows.len() < WRITE_BATCH_MIN {
                    read.recv().await
                } else {
                    read.try_recv().ok()
                };
                let Some(more) = more else { break };
                rows.extend(more);
            }
            if rows.is_empty() {
                return Ok(());
            }
            let waits = self.store.waiting();
            let lead_ms = 1000 * i64::from(self.config.heartbeat.expiring_s);
            let write = self.store.write(move |tx| {
                let mut import = Import::begin(tx)?.announcing(now().plus_ms(lead_ms));
                let mut seen = Vec::new();
                while !rows.is_empty() && (seen.len() < CHUNK_ROWS || !waits()) {
                    for (file, found) in rows.drain(..CHUNK_ROWS.min(rows.len())) {
                        found.map_or(Ok(()), |found| import.upsert(&found))?;
                        if !files_later {
                            remember_file(tx, home_id, &file)?;
                        }
                        seen.push(file);
                    }
                }
                import.finish()?;
                Ok((rows, seen))
            });
            let (rest, seen) = write.await?;
            rows = rest;
            if files_later {
                self.imported().entry(home_id).or_default().extend(seen);
            }
            failpoint::reach("import.written");
            self.store.build_indexes_if_large().await?;
        }
    }
}

/// A transcript with what was read from it, if it is a session.
type Read = (Listed, Option<Found>);

/// A transcript with its row, if it is a session.
type Row = (Listed, Option<FoundSession>);

fn remember_file(tx: &Transaction<'_>, home_id: i64, file: &Listed) -> store::Result<()> {
    let Listed { location, stamp, .. } = file;
    files::remember(tx, home_id, location, (stamp.size, stamp.mtime_ns, stamp.inode))
}

/// Reads a batch; returns files that cannot be opened, or are too large to be read, apart, so that
/// the next sweep tries them again.
fn read_together(reader: &dyn Reader, batch: Vec<Listed>) -> (Vec<Read>, Vec<Gap>) {
    let locations: Vec<_> = batch.iter().map(|entry| &*entry.location).collect();
    let found = reader.read_all(&locations);
    let (mut read, mut unopened) = (Vec::new(), Vec::new());
    for (entry, found) in batch.into_iter().zip(found) {
        let opened = match found {
            Some(_) => Ok(()),
            None => providers::must_be_readable(&entry.location),
        };
        match opened {
            Ok(()) => read.push((entry, found)),
            // It has disappeared since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => unopened.push(Gap::of(entry.location.into(), &error)),
        }
    }
    (read, unopened)
}

/// Turns a transcript's metadata into a row.
fn to_row(
    known: &KnownHome,
    entry: &Listed,
    found: Found,
    (retention, version): (Option<Retention>, Option<Version>),
    dirs: &DirCache,
) -> FoundSession {
    let dir = dirs.get(&found.facts.launch_dir);
    let exists = dir.and_then(|dir| dir.exists);
    let verdict = found.verdict.for_program(version, known.provider.newest_tested());
    let verdict = super::verdict::with_directory(verdict, &found.facts.launch_dir, exists);
    let expires_at = retention.map(|retention| {
        let basis = match retention.basis {
            Basis::Modified => Timestamp::from_ns(entry.stamp.mtime_ns),
            Basis::LastActivity => found.facts.last_activity,
        };
        basis.plus_ms(retention.age_ms)
    });
    let is_doomed = verdict.reason == Some(Reason::DeletedAtNextStart);
    let expires_at = if is_doomed { Some(now()) } else { expires_at };
    let id = |provider_session_id: &str| session_id(known, &found.facts.scope, provider_session_id);
    FoundSession {
        id: id(&found.facts.provider_session_id),
        provider: known.provider.id().to_owned(),
        home_id: known.id,
        parent_id: found.parent.as_deref().map(id),
        parent: found.parent,
        location: entry.location.clone(),
        project: dir.map_or(&found.facts.launch_dir, |dir| &dir.project).clone(),
        earlier_scope: found.earlier_scope,
        facts: plausible(found.facts, Timestamp::from_ns(entry.stamp.mtime_ns)),
        status: verdict.status,
        reason: verdict.reason,
        expires_at,
        at: now(),
        ..FoundSession::default()
    }
}

/// Replaces times that a wrong clock has put into the future, where they would stay first in every
/// list: by the time at which the transcript was changed, if that is past.
fn plausible(mut facts: Facts, modified: Timestamp) -> Facts {
    let now = now();
    let latest = modified.min(now);
    for at in [&mut facts.created_at, &mut facts.last_activity] {
        if *at > now.plus_ms(CLOCK_ERROR_MS) {
            *at = latest;
        }
    }
    facts
}

/// Returns the id of a discovered session, which is the same after a lost registry.
fn session_id(known: &KnownHome, scope: &str, provider_session_id: &str) -> String {
    let home = known.home.path.to_string_lossy();
    let name = [known.provider.id(), &home, scope, provider_session_id].join("\0");
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{FileId, Stamp};
    use crate::registry::Registry;

    #[test]
    fn activity_in_the_future_is_that_of_the_file() {
        let day = CLOCK_ERROR_MS;
        let (soon, far) = (now().plus_ms(day / 2), now().plus_ms(9 * day));
        let activity = |at, modified| {
            let facts = Facts { last_activity: at, created_at: at, ..Facts::default() };
            plausible(facts, modified).last_activity
        };
        let before = now().plus_ms(-day);
        assert_eq!(activity(soon, before), soon, "a clock may be a little fast");
        assert_eq!(activity(far, before), before);
        assert!(activity(far, far) <= now());
    }

    #[tokio::test]
    async fn stamps_that_cannot_be_stored_yet_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of_folder(dir.path()).await;
        let seen = |number: usize| Listed {
            location: format!("{number:04}"),
            stamp: Stamp { size: 1, mtime_ns: 2, inode: 3 },
            file: FileId::default(),
        };
        let all: Vec<_> = (0..2 * WRITE_BATCH_MIN + 1).map(seen).collect();
        registry.discovery.imported().insert(1, all.clone());
        // Home 1 does not exist, so the write fails.
        registry.discovery.remember_imported(1).await.unwrap_err();
        let mut kept = registry.discovery.imported().remove(&1).unwrap();
        kept.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        assert_eq!(kept, all);
    }
}
