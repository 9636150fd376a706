//! The daemon's own environment, and the part of it that child processes get. Knows no variable by
//! name.

use std::collections::BTreeSet;

use sessd_proto::Environment;
use sessd_proto::launch::Name;

use crate::config::Config;
use crate::providers;

/// The environment that the daemon was started with.
#[derive(Clone, Debug)]
pub struct DaemonEnvironment {
    /// All variables.
    pub(crate) all: Environment,
    /// The part that every child process gets.
    pub(crate) base: Environment,
    /// True if it came from the shell of a caller.
    is_borrowed: bool,
}

impl DaemonEnvironment {
    /// Wraps an environment that was set for the daemon on purpose, as by a service manager.
    #[must_use]
    pub fn intended(env: Environment) -> Self {
        Self { base: env.clone(), all: env, is_borrowed: false }
    }

    /// Wraps the environment of the shell whose call happened to start the daemon.
    #[must_use]
    pub fn borrowed(env: Environment) -> Self {
        Self { is_borrowed: true, ..Self::intended(env) }
    }

    /// Drops from a borrowed environment the variables that providers read. They belong to that one
    /// caller; others bring their own, and would otherwise silently use its keys and homes.
    pub(crate) fn without_caller_variables(mut self, config: &Config) -> Self {
        if self.is_borrowed {
            declared_variables(config).iter().for_each(|name| drop(self.base.0.remove(&**name)));
        }
        self
    }
}

/// Returns the names of all variables that some provider reads from its caller's environment.
pub(crate) fn declared_variables(config: &Config) -> BTreeSet<Name> {
    let own = providers::ALL.iter().flat_map(|provider| provider.environment());
    let more = config.environment.values().flatten();
    own.map(|name| Name::from(*name)).chain(more.map(|name| Name::from(name.clone()))).collect()
}
