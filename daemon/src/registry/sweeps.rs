//! Sweeps: what is new, changed or gone on disk comes into the registry here.
//!
//! "Gone" is never guessed: a session is gone only if its home could be listed and does not
//! have it. A sweep that would lose more than half of a home is held and reported.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sessd_proto::{Fault, Kind, Status};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::homes::{HOME_REASONS, KnownHome, Trouble};
use super::{Registry, blocking};
use crate::clock::now;
use crate::providers::{Basis, Found, Listed, Retention, Unreadable};
use crate::store::bindings::{self, Discovered};
use crate::store::{self, files, sessions};
use crate::system;

/// Transcripts read in one go.
const BATCH: usize = 200;

/// Transcripts written in one go, while nobody else waits for the store.
const TOGETHER: usize = 2_000;

/// Sessions that must vanish at once before the half rule applies; one is no pattern.
const LOSS_MIN: usize = 2;

/// The namespace of ids of discovered sessions (DESIGN: the same session, the same id).
const NAMESPACE: Uuid = Uuid::from_u128(0x7365_7373_6400_5f64_8973_636f_7665_7264);

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
    /// Those of the store; trouble with one home is part of its result.
    pub async fn sweep(self: &Arc<Self>) -> Result<Vec<Sweep>, Fault> {
        self.remember_homes(&self.env, false).await?;
        for (provider, paths) in &self.config.homes {
            for path in paths {
                self.remember_configured(provider, path).await?;
            }
        }
        let mut sweeps = Vec::new();
        for home in self.known_homes().await? {
            sweeps.push(self.sweep_home(&home).await?);
        }
        self.swept.send_replace(true);
        Ok(sweeps)
    }

    /// Sweeps one home: stats first, then only what changed.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn sweep_home(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        let _one_at_a_time = self.sweeping.lock().await;
        self.follow_leases(known).await?;
        let started = Instant::now();
        let mut sweep = Sweep {
            provider: known.provider.id().to_owned(),
            home: known.home.path.to_string_lossy().into_owned(),
            ..Sweep::default()
        };
        let scan = known.clone();
        let (listed, retention) = blocking(move || {
            (scan.provider.discover(&scan.home), scan.provider.retention(&scan.home))
        })
        .await?;
        let trouble = match listed {
            Err(Unreadable::Missing) => Some(Trouble::Missing),
            Err(Unreadable::Denied(why)) => Some(Trouble::Unreadable(why)),
            Ok(listed) => {
                sweep.listed = listed.len();
                self.take_in(known, listed, retention, &mut sweep).await?
            }
        };
        self.follow_leases(known).await?;
        sweep.trouble = trouble.as_ref().map(Trouble::describe);
        self.settle(known, trouble).await?;
        system::give_back_memory();
        sweep.ms = started.elapsed().as_millis();
        Ok(sweep)
    }

    /// Reads what changed, then looks at what is not there any more.
    async fn take_in(
        &self,
        known: &KnownHome,
        listed: Vec<Listed>,
        retention: Option<Retention>,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        let home_id = known.id;
        let mut seen = self.store.read(move |c| files::of_home(c, home_id)).await?;
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
        self.absorb(known, changed, retention).await?;
        self.predict(known, retention, is_new).await?;
        let vanished: HashSet<String> = seen.into_keys().collect();
        self.bury(known, vanished, sweep).await
    }

    /// Reads transcripts and writes down what they say, both at once.
    async fn absorb(
        &self,
        known: &KnownHome,
        changed: Vec<Listed>,
        retention: Option<Retention>,
    ) -> Result<(), Fault> {
        if changed.is_empty() {
            return Ok(());
        }
        let is_large = changed.len() > TOGETHER;
        if is_large {
            self.store.begin_import().await?;
        }
        let (read, rows) = mpsc::channel(TOGETHER / BATCH);
        let reading = read_all(known, changed, retention, read);
        let (read, written) = tokio::join!(reading, self.remember_all(known.id, rows));
        if is_large {
            let store = self.store.clone();
            // Not awaited: lists that wait for this sweep come first.
            tokio::spawn(async move {
                if let Err(error) = store.end_import().await {
                    tracing::warn!("after an import: {error}");
                }
                system::give_back_memory();
            });
        }
        read.and(written)
    }

    /// Writes down in one go what was read meanwhile: the more at once, the less there is to
    /// write. When somebody waits for the store, the rest is left for the next go.
    async fn remember_all(
        &self,
        home_id: i64,
        mut read: mpsc::Receiver<Vec<Row>>,
    ) -> Result<(), Fault> {
        const TURN: usize = 200;
        let mut rows = VecDeque::new();
        loop {
            while rows.len() < TOGETHER
                && let Ok(more) = read.try_recv()
            {
                rows.extend(more);
            }
            if rows.is_empty() {
                let Some(more) = read.recv().await else { return Ok(()) };
                rows.extend(more);
                continue;
            }
            let waits = self.store.waiting();
            let write = self.store.write(move |tx| {
                let mut done = 0;
                while !rows.is_empty() && (done < TURN || !waits()) {
                    for row in rows.drain(..TURN.min(rows.len())) {
                        remember(tx, home_id, &row)?;
                        done += 1;
                    }
                }
                Ok(rows)
            });
            rows = write.await?;
        }
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
    async fn settle(&self, known: &KnownHome, trouble: Option<Trouble>) -> Result<(), Fault> {
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
        if well && (before.is_some() || !self.has_swept()) {
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

/// What a launch directory is, looked up once in a sweep.
struct Place {
    exists: bool,
    project: String,
}

/// A transcript with what it says, if it is a session.
type Row = (Listed, Option<Discovered>);

fn remember(tx: &rusqlite::Transaction<'_>, home_id: i64, row: &Row) -> store::Result<()> {
    let (Listed { location, stamp }, found) = row;
    if let Some(found) = found {
        bindings::absorb(tx, found)?;
    }
    files::remember(tx, home_id, location, (stamp.size, stamp.mtime_ns, stamp.inode))
}

/// Reads transcripts batch by batch.
async fn read_all(
    known: &KnownHome,
    changed: Vec<Listed>,
    retention: Option<Retention>,
    into: mpsc::Sender<Vec<Row>>,
) -> Result<(), Fault> {
    let mut changed = changed.into_iter();
    let mut places = HashMap::new();
    while changed.len() > 0 {
        let batch: Vec<_> = changed.by_ref().take(BATCH).collect();
        let known = known.clone();
        let rows;
        (rows, places) = blocking(move || {
            let row = |entry| read_one(&known, entry, retention, &mut places);
            let rows = batch.into_iter().filter_map(row).collect();
            (rows, places)
        })
        .await?;
        if into.send(rows).await.is_err() {
            // Whoever writes has failed, and says why.
            break;
        }
    }
    Ok(())
}

/// One that cannot be opened now is not remembered, so that the next sweep tries again.
fn read_one(
    known: &KnownHome,
    entry: Listed,
    retention: Option<Retention>,
    places: &mut HashMap<String, Place>,
) -> Option<Row> {
    let found = known.provider.read(&known.home, &entry.location);
    if found.is_none() && File::open(&entry.location).is_err() {
        return None;
    }
    let found = found.map(|found| discovered(known, &entry, found, retention, places));
    Some((entry, found))
}

/// The row that a transcript becomes.
fn discovered(
    known: &KnownHome,
    entry: &Listed,
    found: Found,
    retention: Option<Retention>,
    places: &mut HashMap<String, Place>,
) -> Discovered {
    let place = places.entry(found.launch_dir.clone()).or_insert_with(|| Place {
        exists: Path::new(&found.launch_dir).is_dir(),
        project: super::sessions::project_root(&found.launch_dir),
    });
    let verdict = super::checks::with_directory(found.verdict, place.exists);
    let expires_at = retention.map(|retention| {
        let basis = match retention.basis {
            Basis::Modified => sessd_proto::Timestamp::from_ns(entry.stamp.mtime_ns),
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
        project: place.project.clone(),
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
    }
}

/// The id of a discovered session: the same after a lost registry.
fn session_id(known: &KnownHome, scope: &str, provider_session_id: &str) -> String {
    let home = known.home.path.to_string_lossy();
    let name = [known.provider.id(), &home, scope, provider_session_id].join("\0");
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}
