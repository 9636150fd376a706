//! Launching: starts sessions, and decides which process may. Resume, new sessions, forks, agents.
//!
//! A launch plan (program, arguments, directory, environment) comes from the provider and is
//! completed here; it is run by the caller (`resume`) or by a turn. Knows sessions and everything
//! below; knows nothing of prompts and turns.

use std::path::PathBuf;
use std::sync::Arc;

use sessd_proto::Environment;
use sessd_proto::launch::{EnvironmentRequest, Name};

use crate::config::Config;
use crate::environment::{DaemonEnvironment, declared_variables};
use crate::registry::discovery::Discovery;
use crate::registry::homes::Homes;
use crate::registry::sessions::Sessions;
use crate::registry::writers::Writers;
use crate::store::Store;

pub(crate) mod admission;
mod agents;
mod background;
pub(crate) mod create;
mod plan;
mod resume;
pub(crate) mod secrets;
mod steal;
mod tools;

/// Starts sessions.
#[derive(Debug)]
pub(crate) struct Launches {
    store: Arc<Store>,
    config: Arc<Config>,
    /// The configuration file, as `agents` names it.
    config_file: PathBuf,
    /// The folder with the registry's files.
    state: PathBuf,
    env: Arc<DaemonEnvironment>,
    /// Names of the variables that providers want from callers.
    declared: Vec<Name>,
    homes: Arc<Homes>,
    writers: Arc<Writers>,
    discovery: Arc<Discovery>,
    sessions: Arc<Sessions>,
}

/// The fields of [`Launches`] that its caller provides.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) config: Arc<Config>,
    pub(crate) config_file: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) env: Arc<DaemonEnvironment>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) writers: Arc<Writers>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Launches {
    /// Creates the floor over those below it.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { store, config, config_file, state, env, homes, writers, discovery, sessions } =
            parts;
        let declared = declared_variables(&config).into_iter().collect();
        Arc::new(Self {
            store,
            config,
            config_file,
            state,
            env,
            declared,
            homes,
            writers,
            discovery,
            sessions,
        })
    }

    /// Returns the names of the variables that providers want from callers.
    #[must_use]
    pub(crate) fn declared_environment(&self, _: &EnvironmentRequest) -> Vec<Name> {
        self.declared.clone()
    }

    /// Returns the environment of a start: ours, overridden by the caller's, then by the agent's.
    pub(crate) fn environment(&self, caller: &Environment, agent: &Environment) -> Environment {
        let mut env = self.env.base.clone();
        env.0.extend(caller.0.clone());
        env.0.extend(agent.0.clone());
        env
    }
}
