//! Homes and their sweeps: what is new, changed or gone on disk comes into the registry here.
//!
//! "Gone" is never guessed: a session is gone only if its home could be listed and does not
//! have it. A sweep that would lose more than half of a home is held and reported.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sessd_proto::provider::HomeInfo;
use sessd_proto::{Environment, Fault, Status};
use uuid::Uuid;

use super::{Registry, blocking};
use crate::clock::now;
use crate::providers::{self, Basis, Found, Home, Listed, Provider, Retention, Unreadable};
use crate::store::bindings::{self, Discovered, HomeRow};
use crate::store::{files, sessions};

/// Reasons of verdicts that say something about a home, not about a session.
pub const HOME_REASONS: &[&str] = &["home_missing", "home_unreadable", "home_held"];

/// Transcripts read and written in one go: short enough for others to get their turn.
const BATCH: usize = 200;

/// Sessions that must vanish at once before the half rule applies; one is no pattern.
const LOSS_MIN: usize = 2;

/// The namespace of ids of discovered sessions (DESIGN: the same session, the same id).
const NAMESPACE: Uuid = Uuid::from_u128(0x7365_7373_6400_5f64_8973_636f_7665_7264);

/// A home that is remembered, with its provider.
#[derive(Clone)]
pub(super) struct KnownHome {
    pub(super) id: i64,
    pub(super) provider: &'static dyn Provider,
    pub(super) home: Home,
}

/// What the last sweep thinks of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    trouble: Option<Trouble>,
    retention: Option<Option<(i64, bool)>>,
}

/// Why nothing is concluded from what a home does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Missing,
    Unreadable(String),
    Held { lost: usize, of: usize },
}

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
    /// Remembers the homes that an environment selects; answers whether one is new. Homes of a
    /// caller count only if they exist; those of the daemon and the configuration are remembered
    /// in any case.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remember_homes(
        &self,
        env: &Environment,
        only_existing: bool,
    ) -> Result<bool, Fault> {
        let mut is_new = false;
        let known = self.known_homes().await?;
        let is_known = |provider: &dyn Provider, home: &Home| {
            known.iter().any(|k| k.provider.id() == provider.id() && k.home == *home)
        };
        for provider in providers::ALL {
            for home in provider.homes(env) {
                if is_known(*provider, &home) || only_existing && !home.path.is_dir() {
                    continue;
                }
                let path = home.path.to_string_lossy().into_owned();
                let remember = move |tx: &rusqlite::Transaction<'_>| {
                    bindings::remember_home(tx, provider.id(), &path, &home.env)
                };
                self.store.write(remember).await?;
                is_new = true;
            }
        }
        Ok(is_new)
    }

    /// Remembers the homes of a caller; what is in a new one is soon in the list.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn remember_caller(self: &Arc<Self>, env: &Environment) -> Result<(), Fault> {
        if self.remember_homes(env, true).await? {
            let registry = Arc::clone(self);
            // Not awaited: the caller came for a session, not for the whole home.
            tokio::spawn(async move { registry.sweep().await.map(drop) });
        }
        Ok(())
    }

    pub(super) async fn known_homes(&self) -> Result<Vec<KnownHome>, Fault> {
        let rows = self.store.read(bindings::homes).await?;
        Ok(rows.into_iter().filter_map(known_home).collect())
    }

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

    async fn remember_configured(&self, provider: &str, path: &Path) -> Result<(), Fault> {
        let Some(provider) = providers::by_id(provider) else { return Ok(()) };
        // The provider knows which variable selects a home: ask it with that variable set.
        // Some variables name the directory that holds the home.
        let values = [Some(path), path.parent()].into_iter().flatten();
        let selecting = values.flat_map(|value| {
            let value = value.to_string_lossy().into_owned();
            provider
                .environment()
                .iter()
                .map(move |name| Environment([((*name).to_owned(), value.clone())].into()))
        });
        let home = selecting.flat_map(|env| provider.homes(&env)).find(|home| home.path == path);
        let home = home.unwrap_or_else(|| Home { path: path.to_owned(), env: BTreeMap::new() });
        let text = path.to_string_lossy().into_owned();
        self.store
            .write(move |tx| bindings::remember_home(tx, provider.id(), &text, &home.env))
            .await?;
        Ok(())
    }

    /// Sweeps one home: stats first, then only what changed.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn sweep_home(self: &Arc<Self>, known: &KnownHome) -> Result<Sweep, Fault> {
        let _one_at_a_time = self.sweeping.lock().await;
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
        sweep.trouble = trouble.as_ref().map(Trouble::describe);
        self.settle(known, trouble).await?;
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
        let mut changed = Vec::new();
        for entry in listed {
            let stamp = &entry.stamp;
            let new = (stamp.size, stamp.mtime_ns, stamp.inode);
            if seen.remove(&entry.location) != Some(new) {
                changed.push(entry);
            }
        }
        sweep.read = changed.len();
        let mut roots = HashMap::new();
        let mut changed = changed.into_iter();
        loop {
            let batch: Vec<_> = changed.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            roots = self.read_batch(known, batch, retention, roots).await?;
        }
        self.predict(known, retention).await?;
        let vanished: Vec<String> = seen.into_keys().collect();
        self.bury(known, vanished, sweep).await
    }

    async fn read_batch(
        &self,
        known: &KnownHome,
        batch: Vec<Listed>,
        retention: Option<Retention>,
        mut roots: HashMap<String, String>,
    ) -> Result<HashMap<String, String>, Fault> {
        let reader = known.clone();
        let (rows, roots) = blocking(move || {
            let read = |entry: Listed| {
                let found = reader.provider.read(&reader.home, &entry.location);
                let found =
                    found.map(|found| discovered(&reader, &entry, found, retention, &mut roots));
                (entry, found)
            };
            let rows: Vec<_> = batch.into_iter().map(read).collect();
            (rows, roots)
        })
        .await?;
        let home_id = known.id;
        self.store
            .write(move |tx| {
                for (entry, found) in &rows {
                    if let Some(found) = found {
                        bindings::absorb(tx, found)?;
                    }
                    let Listed { location, stamp } = entry;
                    let seen = (stamp.size, stamp.mtime_ns, stamp.inode);
                    files::remember(tx, home_id, location, seen)?;
                }
                Ok(())
            })
            .await?;
        Ok(roots)
    }

    /// Predicts anew when the provider's settings are not those of the last sweep.
    async fn predict(&self, known: &KnownHome, retention: Option<Retention>) -> Result<(), Fault> {
        let present = retention.map(|r| (r.age_ms, r.basis == Basis::Modified));
        let before = self.home_state(known.id).retention;
        if before == Some(present) {
            return Ok(());
        }
        let home_id = known.id;
        let (age_ms, modified) = present.map_or((None, false), |(age, by)| (Some(age), by));
        self.store.write(move |tx| bindings::predict_expiry(tx, home_id, age_ms, modified)).await?;
        self.set_home_state(known.id, |state| state.retention = Some(present));
        Ok(())
    }

    /// Concludes that sessions are gone, unless so many vanished that the home is in doubt.
    async fn bury(
        &self,
        known: &KnownHome,
        vanished: Vec<String>,
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        if vanished.is_empty() {
            return Ok(None);
        }
        let (home_id, paths) = (known.id, vanished.clone());
        let (lost, of) = self
            .store
            .read_slowly(move |c| {
                let mut lost = Vec::new();
                for path in &paths {
                    if let Some(seq) = bindings::at_location(c, home_id, path)? {
                        lost.extend(sessions::by_seq(c, seq)?);
                    }
                }
                Ok((lost, bindings::count_in_home(c, home_id)?))
            })
            .await?;
        // A loss that was predicted raises no doubt.
        let now = now();
        let surprising = lost
            .iter()
            .filter(|row| row.session.status != Status::Expired)
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
        if well && (before.is_some() || !*self.swept.borrow()) {
            let home_id = known.id;
            let rows = self
                .store
                .read_slowly(move |c| {
                    let seqs = sessions::held_back(c, home_id, HOME_REASONS)?;
                    let rows = seqs.into_iter().map(|seq| sessions::by_seq(c, seq));
                    rows.filter_map(Result::transpose).collect::<crate::store::Result<Vec<_>>>()
                })
                .await?;
            for row in rows {
                let verdict = self.ask(known, &row).await?;
                self.keep(&row, verdict).await?;
            }
        }
        Ok(())
    }

    pub(super) fn home_trouble(&self, home_id: i64) -> Option<Trouble> {
        self.home_state(home_id).trouble
    }

    fn home_state(&self, home_id: i64) -> State {
        let homes = self.homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        homes.get(&home_id).cloned().unwrap_or_default()
    }

    fn set_home_state(&self, home_id: i64, change: impl FnOnce(&mut State)) {
        let mut homes = self.homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(homes.entry(home_id).or_default());
    }

    /// Every directory in which a change hints at new or changed sessions.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn watched(&self) -> Result<Vec<PathBuf>, Fault> {
        let mut watched = Vec::new();
        for KnownHome { provider, home, .. } in self.known_homes().await? {
            watched.extend(provider.watched(&home));
            // A home or a store that is not there yet shows up in the directory above it.
            watched.extend(home.path.parent().filter(|_| !home.path.is_dir()).map(Path::to_owned));
            watched.push(home.path);
        }
        Ok(watched)
    }

    pub(super) fn home_info(&self, known: &KnownHome) -> HomeInfo {
        let trouble = self.home_trouble(known.id);
        let state = match trouble {
            None => "ok",
            Some(Trouble::Missing) => "missing",
            Some(Trouble::Unreadable(_)) => "unreadable",
            Some(Trouble::Held { .. }) => "held",
        };
        HomeInfo {
            path: known.home.path.to_string_lossy().into_owned(),
            state: state.to_owned(),
            detail: trouble.map(|trouble| trouble.describe()),
        }
    }
}

impl Trouble {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Missing => "its store is not there".to_owned(),
            Self::Unreadable(why) => format!("its store cannot be read: {why}"),
            Self::Held { lost, of } => {
                format!("{lost} of its {of} sessions vanished at once, which is not believed")
            }
        }
    }
}

pub(super) fn known_home(row: HomeRow) -> Option<KnownHome> {
    let HomeRow { id, provider, path, env } = row;
    let provider = providers::by_id(&provider)?;
    Some(KnownHome { id, provider, home: Home { path: path.into(), env } })
}

/// The row that a transcript becomes.
fn discovered(
    known: &KnownHome,
    entry: &Listed,
    found: Found,
    retention: Option<Retention>,
    roots: &mut HashMap<String, String>,
) -> Discovered {
    let verdict = super::checks::with_directory(found.verdict, &found.launch_dir);
    let root = roots
        .entry(found.launch_dir.clone())
        .or_insert_with(|| super::sessions::project_root(&found.launch_dir));
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
        project: root.clone(),
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
