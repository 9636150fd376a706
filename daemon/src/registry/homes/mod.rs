//! Homes: the provider directories that are known, and how far each can be trusted now.
//!
//! The lowest floor of the registry: it knows the store, the providers and the disks, and nothing
//! of sessions, leases or turns.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sessd_proto::provider::{HomeInfo, HomeState};
use sessd_proto::session::UnreadablePart;
use sessd_proto::{Environment, Fault, Reason, Timestamp};

use crate::launch_files;
use crate::providers::{self, Bound, Gap, Home, LiveSession, Provider, Version};
use crate::store::Store;
use crate::store::bindings::{self, HomeRow};
use crate::store::sessions::Stored;
use directories::Directories;
use gate::{Gate, LISTING_TIMEOUT, LIVE_TIMEOUT, Unanswered};
use programs::Programs;

pub(crate) mod directories;
pub(crate) mod gate;
pub(crate) mod programs;
mod renamed;

/// The most unreadable parts of homes that one response names.
const PARTS_MAX: usize = 100;

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

/// The state of a home as the last sweep found it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    gate: Arc<Gate>,
    pub(crate) trouble: Option<Trouble>,
    /// The parts that could not be read.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) retention: Option<Option<(i64, bool)>>,
    /// The start of the last sweep that listed the home.
    pub(crate) looked_at: Option<Timestamp>,
    /// The start of the last sweep that listed the home and believed what it saw.
    pub(crate) listed_at: Option<Timestamp>,
}

/// The trouble with a home: while it lasts, a session that is not shown is not gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Missing,
    Unreadable(String),
    Hung,
    Held { lost: usize, of: usize },
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
        let is_known = |provider: &dyn Provider, home: &Home| {
            known.iter().any(|k| k.provider.id() == provider.id() && k.home == *home)
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

    /// Returns the sessions of a home that are open in processes; `None` if they are not shown.
    ///
    /// # Errors
    /// Fails if the call panics.
    pub(crate) async fn ask_live(
        &self,
        known: &KnownHome,
    ) -> Result<Option<Vec<LiveSession>>, Fault> {
        let version = match known.provider.discovery().live_since() {
            Some(_) => self.version(known.provider, None).await?,
            None => None,
        };
        let Some(read) = known.provider.live_of(version) else { return Ok(None) };
        Ok(self.ask(known, LIVE_TIMEOUT, move |known| read(&known.home)).await?.flatten())
    }

    fn gate(&self, home_id: i64) -> Arc<Gate> {
        Arc::clone(&self.states().entry(home_id).or_default().gate)
    }

    /// Returns the trouble with a home, if it has any.
    pub(crate) fn trouble(&self, home_id: i64) -> Option<Trouble> {
        self.state(home_id).trouble
    }

    /// Returns why a session that a home does not show may be in it all the same, in words for
    /// people; `None` if the last sweep has seen the whole home.
    pub(crate) fn doubt(&self, home_id: i64) -> Option<String> {
        let State { trouble, gaps, .. } = self.state(home_id);
        trouble.map(|trouble| trouble.describe()).or_else(|| describe(&gaps))
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

    /// Returns the parts of all homes that cannot be read now, at most 100.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn unreadable(&self) -> Result<Vec<UnreadablePart>, Fault> {
        let mut parts = Vec::new();
        for known in self.known().await? {
            let State { trouble, gaps, .. } = self.state(known.id);
            let part = |path: &Path, error: String| UnreadablePart {
                provider: known.provider.id().to_owned(),
                home: known.home.path.to_string_lossy().into_owned(),
                path: path.to_string_lossy().into_owned(),
                error,
            };
            let of_home = trouble.filter(|it| matches!(it, Trouble::Unreadable(_) | Trouble::Hung));
            parts.extend(of_home.map(|trouble| part(&known.home.path, trouble.describe())));
            parts.extend(gaps.into_iter().map(|gap| part(&gap.path, gap.error)));
        }
        parts.truncate(PARTS_MAX);
        Ok(parts)
    }
}

/// Describes the parts of a home that cannot be read, in words for people; `None` without any.
fn describe(gaps: &[Gap]) -> Option<String> {
    let [first, others @ ..] = gaps else { return None };
    let first = format!("{}: {}", first.path.display(), first.error);
    let more = match others.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Some(format!("a part of its store cannot be read: {first}{more}"))
}

impl Trouble {
    /// Describes the trouble in words for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Missing => "its store does not exist".to_owned(),
            Self::Unreadable(why) => format!("its store cannot be read: {why}"),
            Self::Hung => "it does not answer".to_owned(),
            Self::Held { lost, of } => format!(
                "{lost} of its {of} sessions disappeared at once; treating this as a problem \
                 with the disk, not as deletions"
            ),
        }
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
