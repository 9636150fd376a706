//! The daemon's own environment: which homes it selects, and what of it a provider gets.
//! Knows no variable by name.

use std::collections::BTreeSet;

use sessd_proto::Environment;
use sessd_proto::launch::Name;

use crate::config::Config;
use crate::providers;

/// The environment that the daemon was started with.
#[derive(Clone, Debug)]
pub struct DaemonEnvironment {
    /// All of it.
    pub(crate) all: Environment,
    /// The part that every child process gets.
    pub(crate) base: Environment,
    is_borrowed: bool,
}

impl DaemonEnvironment {
    /// An environment that was set for the daemon on purpose, as by a service manager.
    #[must_use]
    pub fn meant(env: Environment) -> Self {
        Self { base: env.clone(), all: env, is_borrowed: false }
    }

    /// The environment of the shell that happened to need a daemon first.
    #[must_use]
    pub fn borrowed(env: Environment) -> Self {
        Self { is_borrowed: true, ..Self::meant(env) }
    }

    /// Drops from a borrowed environment what providers read. It belongs to that one caller; other
    /// callers bring their own, and would otherwise silently use that caller's keys and homes.
    pub(crate) fn without_callers(mut self, config: &Config) -> Self {
        if self.is_borrowed {
            declared(config).iter().for_each(|name| drop(self.base.0.remove(&**name)));
        }
        self
    }
}

/// Returns the names of all variables that some provider reads from its caller's environment.
pub(crate) fn declared(config: &Config) -> BTreeSet<Name> {
    let own = providers::ALL.iter().flat_map(|provider| provider.environment());
    let more = config.environment.values().flatten();
    own.map(|name| Name::from(*name)).chain(more.map(|name| Name::from(name.clone()))).collect()
}
