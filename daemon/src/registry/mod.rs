//! The registry: everything sessd can do, and the only code that knows both store and providers.
//!
//! It is built in floors, one folder each. A folder is a struct with state of its own and may call
//! only the folders below it:
//!
//! ```text
//! turns      prompts: accept, run, record, stop            Turns
//! launch     resume, new sessions, forks, agents, tools    Launches
//! sessions   list, show, check, keys, trash, cleanup       Sessions
//! discovery  sweeps, imports, bindings, verdicts           Discovery
//! writers    live state, leases, queues                    Writers
//! homes      provider directories, and disks that may hang Homes
//! ```
//!
//! A folder is a noun and a file in it a verb, so that the place of a call can be guessed: `resume`
//! is `launch/resume.rs`. [`Registry`] creates the floors, and has the calls about the whole:
//! `status`, `providers`, `doctor`.
//!
//! Design notes:
//!
//! - Each floor is given only the floors below it, so the compiler refuses an upward call; the test
//!   `tidy::floors` refuses an upward import. One struct with all methods was rejected: through
//!   `self` every method reaches every other, no import shows it, and the calls grow into one
//!   circle.
//!   Traits between the floors were rejected too: each would have a single implementation.
//! - The order follows from what a call must not skip. Everything that starts a process is above
//!   `writers`, which allows one writer per session. Everything that reads a provider's store is
//!   above `homes`, which bounds the time that a disk may take.
//! - A session is gone only if its home could be listed and does not have it. An unreadable disk
//!   makes sessions `unknown`, and a sweep that would lose more than half of a home is held.
//! - Anything that another process can change at any moment (live state, the existence of a
//!   directory) is read when it is needed and never stored. A verdict is stored with its time.
//! - Requests may be repeated: a caller that lost its connection cannot know whether the first one
//!   arrived. So callers choose the ids of what they create, and a second request finds the first.

use std::sync::Arc;

use sessd_proto::Timestamp;
use sessd_proto::paths::Paths;

use crate::clock::now;
use crate::config::Config;
use crate::copies::Copies;
use crate::environment::DaemonEnvironment;
use crate::store::{self, Store};
use discovery::Discovery;
use homes::Homes;
use homes::programs::Programs;
use launch::Launches;
use sessions::Sessions;
use turns::Turns;
use writers::Writers;

mod discovery;
mod doctor;
mod homes;
mod launch;
mod providers;
mod sessions;
pub(crate) mod status;
mod turns;
mod writers;

/// Everything the daemon knows and can do.
#[derive(Debug)]
pub struct Registry {
    store: Arc<Store>,
    config: Arc<Config>,
    paths: Paths,
    env: Arc<DaemonEnvironment>,
    started_at: Timestamp,
    pub(crate) homes: Arc<Homes>,
    pub(crate) writers: Arc<Writers>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) launches: Arc<Launches>,
    pub(crate) turns: Arc<Turns>,
}

impl Registry {
    /// Opens the registry's file, and cleans up after an earlier daemon: interrupts its turns, ends
    /// its leases, removes stray launch files, and queues the turns that can still be run.
    ///
    /// # Errors
    /// Fails if the file cannot be used; it is then unchanged.
    pub async fn open(
        config: Config,
        paths: Paths,
        env: DaemonEnvironment,
    ) -> Result<Arc<Self>, store::Error> {
        let database = paths.database();
        // A hung disk, or a lock held by another program, must not block the serving thread.
        let opened = tokio::task::spawn_blocking(move || Store::open(&database)).await;
        let store = opened.map_err(|error| store::Error::Other(error.to_string()))??;
        let env = env.without_caller_variables(&config);
        let registry = Arc::new(Self::wire(store, config, paths, env));
        registry.turns.recover().await?;
        registry.writers.recover_twins().await?;
        registry.writers.recover_leases().await?;
        registry.launches.forget_stray_files().await?;
        // Last, so that no turn runs in a registry that cannot be opened after all.
        registry.turns.requeue().await?;
        Ok(registry)
    }

    /// Creates the floors, from the lowest to the top.
    fn wire(store: Store, config: Config, paths: Paths, env: DaemonEnvironment) -> Self {
        let (store, config, env) = (Arc::new(store), Arc::new(config), Arc::new(env));
        let state = paths.state.clone();
        let programs =
            Programs::new(config.programs.clone(), env.all.get("PATH").map(str::to_owned));
        let homes = Homes::new(store.clone(), state.clone(), programs);
        let (copies, per_provider) = (Copies::of(&state), config.turns.per_provider);
        let writers = Writers::new(store.clone(), homes.clone(), copies, per_provider);
        let discovery = Discovery::new(
            store.clone(),
            config.clone(),
            env.clone(),
            homes.clone(),
            writers.clone(),
        );
        let sessions = Sessions::new(
            store.clone(),
            config.clone(),
            state.clone(),
            homes.clone(),
            writers.clone(),
            discovery.clone(),
        );
        let launches = Launches::new(launch::Parts {
            store: store.clone(),
            config: config.clone(),
            config_file: paths.config.clone(),
            state,
            env: env.clone(),
            homes: homes.clone(),
            writers: writers.clone(),
            discovery: discovery.clone(),
            sessions: sessions.clone(),
        });
        let turns = Turns::new(turns::Parts {
            store: store.clone(),
            config: config.clone(),
            env: env.clone(),
            homes: homes.clone(),
            writers: writers.clone(),
            discovery: discovery.clone(),
            sessions: sessions.clone(),
            launches: launches.clone(),
        });
        let started_at = now();
        Self {
            store,
            config,
            paths,
            env,
            started_at,
            homes,
            writers,
            discovery,
            sessions,
            launches,
            turns,
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Marks the registry's file as suspect after damage was seen in it, so that the next start
    /// verifies the whole file.
    pub fn suspect(&self) {
        store::mark_suspect(&self.paths.database());
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sessd_proto::Environment;

    use super::*;

    impl Registry {
        /// Opens a registry for a user whose home directory is `home`.
        pub(crate) async fn of_folder(home: &Path) -> Arc<Self> {
            fs::create_dir_all(home.join("state")).unwrap();
            let [socket, state, config] =
                ["socket", "state", "config.toml"].map(|name| home.join(name));
            let env = [("HOME".to_owned(), home.to_str().unwrap().to_owned())].into();
            let env = DaemonEnvironment::intended(Environment(env));
            let (config, paths) = (Config::defaults().unwrap(), Paths { socket, state, config });
            Self::open(config, paths, env).await.unwrap()
        }
    }
}
