//! Imports: what transcripts say comes into the store, many at a time.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::{iter, mem};

use futures::{StreamExt, TryStreamExt, stream};
use rusqlite::Transaction;
use sessd_proto::{Fault, Timestamp};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Registry;
use super::homes::KnownHome;
use super::patience::LISTING;
use super::places::Met;
use crate::clock::now;
use crate::failpoint;
use crate::providers::{Basis, Found, Listed, Retention};
use crate::store::intake::{Discovered, Intake};
use crate::store::{self, files};
use crate::system;

/// Batches that are read at the same time, oldest first; of the calls that may be in a home, one
/// is left to others.
const READERS: usize = 3;

/// Transcripts above which an import gets more room.
const LARGE: usize = 2_000;

/// Transcripts that one thread reads in one go.
const BATCH: usize = 200;

/// Transcripts written in one go, while nobody else waits for the store.
const TOGETHER: usize = 4_000;

/// Transcripts that are worth a write while more are read: in a few, nearly as many pages change.
const ENOUGH: usize = 1_000;

/// The namespace of ids of discovered sessions (DESIGN: the same session, the same id).
const NAMESPACE: Uuid = Uuid::from_u128(0x7365_7373_6400_5f64_8973_636f_7665_7264);

impl Registry {
    /// Reads transcripts and writes down what they say, both at once; `false` if the home hangs.
    pub(super) async fn absorb(
        &self,
        known: &KnownHome,
        changed: Vec<Listed>,
        retention: Option<Retention>,
    ) -> Result<bool, Fault> {
        if changed.is_empty() {
            return Ok(true);
        }
        let is_large = changed.len() > LARGE;
        if is_large {
            self.store.begin_import().await?;
        }
        let is_first = !self.has_swept();
        // In a registry that is filled for the first time there is nothing that needs them sooner.
        let files_later = is_large && is_first && self.store.is_being_filled();
        let (read, rows) = mpsc::channel(TOGETHER / 2 / BATCH);
        let reading = self.read_all(known, changed, retention, read);
        let writing = self.remember_all(known.id, rows, files_later);
        let (read, written) = tokio::join!(reading, writing);
        // The first sweep ends its imports itself, after the lists that wait for it.
        if is_large && !is_first {
            self.end_import().await;
        }
        written?;
        read
    }

    /// Does what imports leave for later.
    async fn end_import(&self) {
        if let Err(error) = self.store.end_import().await {
            tracing::warn!("after an import: {error}");
        }
        system::give_back_memory();
    }

    /// Does what the first sweep has left for later.
    pub(super) async fn end_first_sweep(&self) {
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

    /// Writes down, in the order of the table, what the first sweep has seen of the transcripts of
    /// a home. Who sweeps that next does so before: what is not remembered would be read again.
    pub(super) async fn remember_imported(&self, home_id: i64) -> Result<(), Fault> {
        let mut files = self.imported().remove(&home_id).unwrap_or_default();
        files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        while !files.is_empty() {
            let rest = files.split_off(files.len().min(ENOUGH));
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
        retention: Option<Retention>,
        into: mpsc::Sender<Vec<Row>>,
    ) -> Result<bool, Fault> {
        let mut changed = changed.into_iter();
        let batches = iter::from_fn(|| {
            let batch: Vec<_> = changed.by_ref().take(BATCH).collect();
            (!batch.is_empty()).then_some(batch)
        });
        // While one batch becomes rows the next is read already, but written is in order.
        let mut batches =
            stream::iter(batches).map(|batch| self.read_batch(known, batch)).buffered(READERS);
        let mut places = Met::new();
        while let Some(read) = batches.try_next().await? {
            let Some(read) = read else { return Ok(false) };
            let dirs = read.iter().filter_map(|(_, found)| Some(&found.as_ref()?.launch_dir));
            self.meet(dirs, &mut places).await?;
            let row = |(entry, found): (Listed, Option<Found>)| {
                let found = found.map(|found| discovered(known, &entry, found, retention, &places));
                (entry, found)
            };
            if into.send(read.into_iter().map(row).collect()).await.is_err() {
                // Whoever writes has failed, and says why.
                break;
            }
        }
        Ok(true)
    }

    /// Reads one batch; `None` if the home hangs.
    async fn read_batch(
        &self,
        known: &KnownHome,
        batch: Vec<Listed>,
    ) -> Result<Option<Vec<(Listed, Option<Found>)>>, Fault> {
        let read = move |known: &KnownHome| read_together(known, batch);
        self.ask_home(known, LISTING, read).await
    }

    /// Writes down in one go what was read meanwhile: the more at once, the less there is to
    /// write. When somebody waits for the store, the rest is left for the next go.
    async fn remember_all(
        &self,
        home_id: i64,
        mut read: mpsc::Receiver<Vec<Row>>,
        files_later: bool,
    ) -> Result<(), Fault> {
        const TURN: usize = 200;
        let mut rows = VecDeque::new();
        loop {
            while rows.len() < TOGETHER {
                let more =
                    if rows.len() < ENOUGH { read.recv().await } else { read.try_recv().ok() };
                let Some(more) = more else { break };
                rows.extend(more);
            }
            if rows.is_empty() {
                return Ok(());
            }
            let waits = self.store.waiting();
            let write = self.store.write(move |tx| {
                let mut intake = Intake::begin(tx)?;
                let mut seen = Vec::new();
                while !rows.is_empty() && (seen.len() < TURN || !waits()) {
                    for (file, found) in rows.drain(..TURN.min(rows.len())) {
                        found.map_or(Ok(()), |found| intake.absorb(&found))?;
                        if !files_later {
                            remember_file(tx, home_id, &file)?;
                        }
                        seen.push(file);
                    }
                }
                intake.end()?;
                Ok((rows, seen))
            });
            let (rest, seen) = write.await?;
            rows = rest;
            if files_later {
                self.imported().entry(home_id).or_default().extend(seen);
            }
            failpoint::reach("import.written");
            self.store.make_indexes_of_many().await?;
        }
    }
}

/// A transcript with what it says, if it is a session.
type Row = (Listed, Option<Discovered>);

fn remember_file(tx: &Transaction<'_>, home_id: i64, file: &Listed) -> store::Result<()> {
    let Listed { location, stamp } = file;
    files::remember(tx, home_id, location, (stamp.size, stamp.mtime_ns, stamp.inode))
}

/// One that cannot be opened now is not remembered, so that the next sweep tries again.
fn read_together(known: &KnownHome, batch: Vec<Listed>) -> Vec<(Listed, Option<Found>)> {
    let locations: Vec<_> = batch.iter().map(|entry| &*entry.location).collect();
    let found = known.provider.discovery().read_all(&known.home, &locations);
    let is_read = |(entry, found): &(Listed, Option<Found>)| {
        found.is_some() || File::open(&entry.location).is_ok()
    };
    batch.into_iter().zip(found).filter(is_read).collect()
}

/// The row that a transcript becomes.
fn discovered(
    known: &KnownHome,
    entry: &Listed,
    found: Found,
    retention: Option<Retention>,
    places: &Met,
) -> Discovered {
    let place = places.get(&found.launch_dir);
    let exists = place.and_then(|place| place.exists);
    let verdict = super::checks::with_directory(found.verdict, exists);
    let expires_at = retention.map(|retention| {
        let basis = match retention.basis {
            Basis::Modified => Timestamp::from_ns(entry.stamp.mtime_ns),
            Basis::LastActivity => found.last_activity,
        };
        basis.plus_ms(retention.age_ms)
    });
    let id = |provider_session_id: &str| session_id(known, &found.scope, provider_session_id);
    Discovered {
        id: id(&found.provider_session_id),
        provider: known.provider.id().to_owned(),
        home_id: known.id,
        parent_id: found.parent.as_deref().map(id),
        scope: found.scope.clone(),
        provider_session_id: found.provider_session_id,
        location: entry.location.clone(),
        project: place.map_or(&found.launch_dir, |place| &place.project).clone(),
        kind: found.kind,
        launch_dir: found.launch_dir,
        cwd: found.cwd,
        title: found.title,
        model: found.model,
        git_branch: found.git_branch,
        status: verdict.status,
        reason: verdict.reason.map(str::to_owned),
        created_at: found.created_at,
        last_activity: found.last_activity,
        expires_at,
        at: now(),
        ..Discovered::default()
    }
}

/// The id of a discovered session: the same after a lost registry.
fn session_id(known: &KnownHome, scope: &str, provider_session_id: &str) -> String {
    let home = known.home.path.to_string_lossy();
    let name = [known.provider.id(), &home, scope, provider_session_id].join("\0");
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Stamp;

    #[tokio::test]
    async fn what_cannot_be_written_down_yet_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::of_folder(dir.path()).await;
        let seen = |number: usize| Listed {
            location: format!("{number:04}"),
            stamp: Stamp { size: 1, mtime_ns: 2, inode: 3 },
        };
        let all: Vec<_> = (0..2 * ENOUGH + 1).map(seen).collect();
        registry.imported().insert(1, all.clone());
        // Of no home that is known.
        registry.remember_imported(1).await.unwrap_err();
        let mut kept = registry.imported().remove(&1).unwrap();
        kept.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        assert_eq!(kept, all);
    }
}
