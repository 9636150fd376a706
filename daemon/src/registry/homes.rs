//! Homes: which are known, and how much each of them can be trusted now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sessd_proto::provider::HomeInfo;
use sessd_proto::{Environment, Fault};

use super::patience::{Gate, LISTING, LOOK, Unanswered};
use super::{Registry, agents};
use crate::providers::{self, Home, Provider};
use crate::store::bindings::{self, HomeRow};

/// Reasons of verdicts that say something about a home, not about a session.
pub const HOME_REASONS: &[&str] = &["home_missing", "home_unreadable", "home_held"];

/// A home that is remembered, with its provider.
#[derive(Clone)]
pub(super) struct KnownHome {
    pub(super) id: i64,
    pub(super) provider: &'static dyn Provider,
    pub(super) home: Home,
}

/// What the last sweep thinks of a home.
#[derive(Clone, Debug, Default)]
pub struct State {
    gate: Arc<Gate>,
    pub(super) trouble: Option<Trouble>,
    pub(super) retention: Option<Option<(i64, bool)>>,
}

/// Why nothing is concluded from what a home does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Missing,
    Unreadable(String),
    Hung,
    Held { lost: usize, of: usize },
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
                // One of ours, which a launch has, only mirrors that of its session.
                let is_ours = home.path.starts_with(self.paths.state.join(agents::FOLDER));
                if is_ours || is_known(*provider, &home) {
                    continue;
                }
                let path = home.path.clone();
                let exists = self.elsewhere.pass(&home.path, LOOK, move || path.is_dir());
                if only_existing && exists.await? != Ok(true) {
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

    pub(super) async fn remember_configured(
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

    /// Asks a home something that reads its disk. `None` if there is no answer in time. Nothing
    /// is concluded from a home that hangs before a sweep has found it well again.
    pub(super) async fn ask_home<T: Send + 'static>(
        &self,
        known: &KnownHome,
        limit: Duration,
        question: impl FnOnce(&KnownHome) -> T + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let (asked, gate) = (known.clone(), self.gate(known.id));
        let answer = gate.pass(limit, move || question(&asked)).await?;
        // A home that was merely full has not been asked at all.
        let hangs = matches!(answer, Err(Unanswered::Hangs));
        if hangs && self.home_trouble(known.id) != Some(Trouble::Hung) {
            let home = known.home.path.display();
            tracing::warn!("{} home {home} does not answer", known.provider.id());
            self.set_home_state(known.id, |state| state.trouble = Some(Trouble::Hung));
        }
        Ok(answer.ok())
    }

    fn gate(&self, home_id: i64) -> Arc<Gate> {
        let mut homes = self.homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(&homes.entry(home_id).or_default().gate)
    }

    pub(super) fn home_trouble(&self, home_id: i64) -> Option<Trouble> {
        self.home_state(home_id).trouble
    }

    pub(super) fn home_state(&self, home_id: i64) -> State {
        let homes = self.homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        homes.get(&home_id).cloned().unwrap_or_default()
    }

    pub(super) fn set_home_state(&self, home_id: i64, change: impl FnOnce(&mut State)) {
        let mut homes = self.homes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(homes.entry(home_id).or_default());
    }

    /// Every directory in which a change hints at new or changed sessions.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn watched(&self) -> Result<Vec<PathBuf>, Fault> {
        let mut watched = Vec::new();
        for known in self.known_homes().await? {
            let dirs = self.ask_home(&known, LISTING, |known| {
                let (mut dirs, path) =
                    (known.provider.discovery().watched(&known.home), &known.home.path);
                // A home or a store that is not there yet shows up in the directory above it.
                dirs.extend(path.parent().filter(|_| !path.is_dir()).map(Path::to_owned));
                dirs.push(path.clone());
                dirs
            });
            watched.extend(dirs.await?.unwrap_or_default());
        }
        // Our own writing is no hint.
        watched.retain(|dir| *dir != self.paths.state);
        Ok(watched)
    }

    pub(super) fn home_info(&self, known: &KnownHome) -> HomeInfo {
        let trouble = self.home_trouble(known.id);
        let state = match trouble {
            None => "ok",
            Some(Trouble::Missing) => "missing",
            Some(Trouble::Unreadable(_) | Trouble::Hung) => "unreadable",
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
            Self::Hung => "it does not answer".to_owned(),
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
