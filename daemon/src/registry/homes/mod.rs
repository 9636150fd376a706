//! Homes: the provider directories that are known, and how far each can be trusted now.
//!
//! The lowest floor of the registry: it knows the store, the providers and the disks, and nothing
//! of sessions, leases or turns.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sessd_proto::provider::{HomeInfo, HomeState};
use sessd_proto::{Environment, Fault, Reason, Timestamp};

use crate::launch_files;
use crate::providers::{self, Bound, Gap, Home, LiveSession, Provider, Version};
use crate::store::Store;
use crate::store::bindings::{self, HomeRow};
use crate::store::sessions::Stored;
use directories::Directories;
use gate::{Gate, LISTING_TIMEOUT, LIVE_TIMEOUT, Unanswered};
use programs::Programs;
pub(crate) use trouble::Trouble;

pub(crate) mod directories;
pub(crate) mod gate;
pub(crate) mod programs;
mod renamed;
mod trouble;

/// Reasons of verdicts that say something about a home, not about a session.
pub(crate) const HOME_REASONS: &[Reason] =
    &[Reason::HomeMissing, Reason::HomeUnreadable, Reason::HomeHeld, Reason::PartUnreadable];

/// The homes of every provider, and the directories outside them.
#[derive(Debug)]
pub(crate) struct Homes {
    store: Arc<Store>,
    /// Our own state folder: homes below it belong to launches of ours.
    state: PathBuf,
    /// Project and caller directories.
    pub(crate) directories: Directories,
    /// The programs that start in them.
    pub(crate) programs: Programs,
    states: Mutex<HashMap<i64, State>>,
}

/// A home that is remembered, with its provider.
#[derive(Clone)]
pub(crate) struct KnownHome {
    pub(crate) id: i64,
    pub(crate) provider: &'static dyn Provider,
    pub(crate) home: Home,
}

/// The sessions of a home that processes show to have open.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) sessions: Vec<LiveSession>,
    /// True if every process shows what it has open: those of the version that the daemon finds do.
    /// What a newer program shows counts all the same.
    pub(crate) is_whole: bool,
}

/// The state of a home as the last sweep found it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    gate: Arc<Gate>,
    pub(crate) trouble: Option<Trouble>,
    /// The parts that could not be read.
    pub(crate) gaps: Arc<[Gap]>,
    pub(crate) retention: Option<Option<(i64, bool)>>,
    /// The start of the last sweep that listed the home.
    pub(crate) looked_at: Option<Timestamp>,
    /// The start of the last sweep that listed the home and believed what it saw.
    pub(crate) listed_at: Option<Timestamp>,
}

/// The choice of homes, among those that an environment selects, to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remember {
    /// All of them: the daemon or its configuration names them.
    All,
    /// Only those that exist: a caller's environment happens to select them.
    Existing,
}

impl Homes {
    /// Creates the floor over the homes in the store; `state` is our own state folder.
    pub(crate) fn new(store: Arc<Store>, state: PathBuf, programs: Programs) -> Arc<Self> {
        let (directories, states) = (Directories::default(), Mutex::default());
        Arc::new(Self { store, state, directories, programs, states })
    }

    /// Remembers the homes that an environment selects; returns true if one of them is new.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn remember(&self, env: &Environment, which: Remember) -> Result<bool, Fault> {
        let mut is_new = false;
        let known = self.known().await?;
        // A caller may spell out the path of a known home: that is the same home.
        let is_known = |provider: &dyn Provider, home: &Home| {
            known.iter().any(|it| {
                let is_it = it.provider.id() == provider.id() && it.home.path == home.path;
                is_it && (which == Remember::Existing || it.home.env == home.env)
            })
        };
        for provider in providers::ALL {
            for home in provider.homes(env) {
                // A home below our own launch files only mirrors that of its session.
                let is_ours = home.path.starts_with(self.state.join(launch_files::FOLDER));
                if is_ours || is_known(*provider, &home) {
                    continue;
                }
                if which == Remember::Existing && !self.exists(&home.path).await? {
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

    /// True if every known home that an environment selects was swept since the start, or cannot
    /// be.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn are_swept(&self, env: &Environment) -> Result<bool, Fault> {
        let is_selected = |known: &KnownHome| {
            known.provider.homes(env).iter().any(|home| home.path == known.home.path)
        };
        let is_swept = |known: &KnownHome| {
            let State { trouble, listed_at, .. } = self.state(known.id);
            trouble.is_some() || listed_at.is_some()
        };
        Ok(self.known().await?.iter().filter(|known| is_selected(known)).all(is_swept))
    }

    /// True if a directory exists and its disk answers.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn exists(&self, path: &Path) -> Result<bool, Fault> {
        let asked = path.to_owned();
        let exists = self.directories.pass(path, LIVE_TIMEOUT, move || asked.is_dir());
        Ok(exists.await? == Ok(true))
    }

    /// Remembers a home that the configuration names by its path.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub(crate) async fn remember_configured(
        &self,
        provider: &str,
        path: &Path,
    ) -> Result<(), Fault> {
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

    /// Returns every remembered home whose provider is known to this version.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn known(&self) -> Result<Vec<KnownHome>, Fault> {
        let rows = self.store.read(bindings::homes).await?;
        Ok(rows.into_iter().filter_map(known_home).collect())
    }

    /// Returns the home that a session belongs to.
    ///
    /// # Errors
    /// Fails if the registry cannot be read, or has a session without a home.
    pub(crate) async fn of_session(&self, row: &Stored) -> Result<KnownHome, Fault> {
        let found = self.known().await?.into_iter().find(|known| known.id == row.home_id);
        found.ok_or_else(|| Fault::internal("a session without a home"))
    }

    /// Returns a stored session as a plan needs it.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn to_launch(&self, row: &Stored) -> Result<Bound, Fault> {
        let real_dir = self.directories.real_path(&row.session.launch_dir).await?;
        Ok(Bound { real_dir, ..bound(row) })
    }

    /// Returns the version of a provider's program that a start with this PATH would run; without
    /// one the daemon's counts. `None` if it is not known.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn version(
        &self,
        provider: &'static dyn Provider,
        path: Option<&str>,
    ) -> Result<Option<Version>, Fault> {
        Ok(self.programs.find(provider, path).await?.number())
    }

    /// Runs a call that reads a home's disk. Returns `None` if it does not end in time. A home
    /// that hangs is remembered as hung until a sweep has found it well again.
    ///
    /// # Errors
    /// Fails if the call panics.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        known: &KnownHome,
        limit: Duration,
        question: impl FnOnce(&KnownHome) -> T + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let (asked, gate) = (known.clone(), self.gate(known.id));
        let answer = gate.pass(limit, move || question(&asked)).await?;
        // A home whose gate was merely full has not been asked at all.
        let hangs = matches!(answer, Err(Unanswered::Hangs));
        if hangs && self.trouble(known.id) != Some(Trouble::Hung) {
            let home = known.home.path.display();
            tracing::warn!("{} home {home} does not answer", known.provider.id());
            self.update(known.id, |state| state.trouble = Some(Trouble::Hung));
        }
        Ok(answer.ok())
    }

    /// Returns the sessions of a home that are open in processes, as far as they are shown.
    ///
    /// # Errors
    /// Fails if the call panics.
    pub(crate) async fn ask_live(&self, known: &KnownHome) -> Result<Shown, Fault> {
        let discovery = known.provider.discovery();
        let Some(read) = discovery.live() else { return Ok(Shown::default()) };
        let version = match discovery.live_since() {
            Some(_) => self.version(known.provider, None).await?,
            None => None,
        };
        let shown = self.ask(known, LIVE_TIMEOUT, move |known| read(&known.home)).await?.flatten();
        let is_whole = shown.is_some() && known.provider.live_of(version).is_some();
        Ok(Shown { sessions: shown.unwrap_or_default(), is_whole })
    }

    fn gate(&self, home_id: i64) -> Arc<Gate> {
        Arc::clone(&self.states().entry(home_id).or_default().gate)
    }

    /// Returns the trouble with a home, if it has any.
    pub(crate) fn trouble(&self, home_id: i64) -> Option<Trouble> {
        self.state(home_id).trouble
    }

    /// Returns a copy of the state of a home.
    pub(crate) fn state(&self, home_id: i64) -> State {
        self.states().get(&home_id).cloned().unwrap_or_default()
    }

    /// Changes the state of a home.
    pub(crate) fn update(&self, home_id: i64, change: impl FnOnce(&mut State)) {
        change(self.states().entry(home_id).or_default());
    }

    fn states(&self) -> MutexGuard<'_, HashMap<i64, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns every directory in which a change hints at new or changed sessions.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn watched_directories(&self) -> Result<Vec<PathBuf>, Fault> {
        let mut watched = Vec::new();
        for known in self.known().await? {
            let dirs = self.ask(&known, LISTING_TIMEOUT, |known| {
                let (mut dirs, path) =
                    (known.provider.discovery().watched(&known.home), &known.home.path);
                // A home or a store that does not exist yet shows up in the directory above it.
                dirs.extend(path.parent().filter(|_| !path.is_dir()).map(Path::to_owned));
                dirs.push(path.clone());
                dirs
            });
            watched.extend(dirs.await?.unwrap_or_default());
        }
        // Our own writes are not a hint.
        watched.retain(|dir| *dir != self.state);
        Ok(watched)
    }

    /// Describes a home for `providers` and `doctor`.
    pub(crate) fn info(&self, known: &KnownHome) -> HomeInfo {
        let State { trouble, gaps, .. } = self.state(known.id);
        let detail = self.doubt(known.id);
        let state = match trouble {
            None if gaps.is_empty() => HomeState::Ok,
            None => HomeState::Incomplete,
            Some(Trouble::Missing) => HomeState::Missing,
            Some(Trouble::Unreadable(_) | Trouble::Hung) => HomeState::Unreadable,
            Some(Trouble::Held { .. }) => HomeState::Held,
        };
        HomeInfo { path: known.home.path.to_string_lossy().into_owned(), state, detail }
    }
}

/// Returns a stored home with its provider, or `None` if this version does not know that one.
pub(crate) fn known_home(row: HomeRow) -> Option<KnownHome> {
    let HomeRow { id, provider, path, env } = row;
    let provider = providers::by_id(&provider)?;
    Some(KnownHome { id, provider, home: Home { path: path.into(), env } })
}

/// Returns a stored session as its provider knows it.
pub(crate) fn bound(row: &Stored) -> Bound {
    Bound {
        provider_session_id: row.session.provider_session_id.clone().unwrap_or_default(),
        scope: row.scope.clone(),
        location: row.location.clone(),
        launch_dir: row.session.launch_dir.clone(),
        real_dir: None,
    }
}
