//! What sessd can do, one file per noun; the only code that knows the store *and* the providers.
//!
//! Start with [`sessions`] (list, show), then [`homes`] and [`sweeps`], [`checks`], [`launches`]
//! (resume), [`leases`], [`starting`] (create), [`turns`] (send), [`queues`], [`following`],
//! [`endings`], [`changes`] and [`cleanup`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sessd_proto::Timestamp;
use sessd_proto::launch::Name;
use sessd_proto::paths::Paths;
use tokio::sync::watch;

use crate::clock::now;
use crate::config::Config;
use crate::providers::Listed;
use crate::store::Store;
use variables::Variables;

mod addresses;
mod agents;
mod binding;
pub mod changes;
pub mod checks;
pub mod cleanup;
pub mod endings;
pub mod following;
pub mod homes;
mod imports;
pub mod keys;
pub mod launches;
pub mod leases;
pub mod live;
mod outcomes;
mod patience;
mod pieces;
mod places;
mod prompts;
pub mod queues;
mod recording;
mod secrets;
pub mod sessions;
pub mod starting;
pub mod surroundings;
pub mod sweeps;
mod tools;
pub mod turns;
pub mod variables;
mod waiting;

/// How long a first list waits for the first sweep.
const FIRST_SWEEP: Duration = Duration::from_secs(4);

/// Everything the daemon knows and can do. Cheap to share.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    config: Config,
    paths: Paths,
    env: Variables,
    /// Names of the variables that providers want to know of callers.
    declared: Vec<Name>,
    started_at: Timestamp,
    homes: Mutex<HashMap<i64, homes::State>>,
    /// The ways to directories of projects and callers.
    elsewhere: places::Places,
    /// The way to everything on PATH.
    programs: patience::Gate,
    sweeping: Arc<tokio::sync::Mutex<()>>,
    /// What the first sweep has seen of transcripts, by home, to be written down after it.
    imported: Mutex<HashMap<i64, Vec<Listed>>>,
    cleaning: tokio::sync::Mutex<()>,
    swept: watch::Sender<bool>,
    turns: waiting::Queues,
}

impl Registry {
    /// Opens the registry's file and ends what an earlier daemon left unfinished.
    ///
    /// # Errors
    /// When the file cannot be used; then it is as it was.
    pub async fn open(
        config: Config,
        paths: Paths,
        env: Variables,
    ) -> Result<Arc<Self>, crate::store::Error> {
        let database = paths.database();
        // A disk that hangs, or a lock of somebody else's, must not hold up who serves.
        let opened = tokio::task::spawn_blocking(move || Store::open(&database)).await;
        let store = opened.map_err(|error| crate::store::Error::Other(error.to_string()))??;
        let turns = waiting::Queues::new(config.turns.per_provider);
        let env = env.without_callers(&config);
        let declared: BTreeSet<_> = variables::declared(&config).collect();
        let registry = Arc::new(Self {
            store,
            config,
            paths,
            env,
            declared: declared.into_iter().collect(),
            started_at: now(),
            homes: Mutex::default(),
            elsewhere: places::Places::default(),
            programs: patience::Gate::default(),
            sweeping: Arc::default(),
            imported: Mutex::default(),
            cleaning: tokio::sync::Mutex::default(),
            swept: watch::Sender::new(false),
            turns,
        });
        registry.recover_turns().await?;
        registry.recover_leases().await?;
        registry.forget_stray_files().await?;
        // Last: none may run in a registry that cannot be opened after all.
        registry.queue_again().await?;
        Ok(registry)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Has the whole file looked at when the daemon starts again: damage was met in it.
    pub fn suspect(&self) {
        crate::store::mark_suspect(&self.paths.database());
    }

    /// The registry's file.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// True once every home was swept since the start.
    #[must_use]
    pub fn has_swept(&self) -> bool {
        *self.swept.borrow()
    }

    /// Waits until the first sweep after the start is over, but not for ever; answers whether
    /// it is.
    pub async fn first_sweep(&self) -> bool {
        let mut swept = self.swept.subscribe();
        tokio::time::timeout(FIRST_SWEEP, swept.wait_for(|swept| *swept)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sessd_proto::Environment;

    use super::*;

    impl Registry {
        /// That of somebody whose home is this folder.
        pub(crate) async fn of_folder(home: &Path) -> Arc<Self> {
            fs::create_dir_all(home.join("state")).unwrap();
            let [socket, state, config] =
                ["socket", "state", "config.toml"].map(|name| home.join(name));
            let env = [("HOME".to_owned(), home.to_str().unwrap().to_owned())].into();
            let env = Variables::meant(Environment(env));
            let (config, paths) = (Config::defaults().unwrap(), Paths { socket, state, config });
            Self::open(config, paths, env).await.unwrap()
        }
    }
}
