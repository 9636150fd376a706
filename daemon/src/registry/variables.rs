//! The daemon's own variables: which homes they select, and what a provider gets of them.
//! Knows no variable by name.

use sessd_proto::Environment;
use sessd_proto::launch::Name;

use crate::config::Config;
use crate::providers;

/// What the daemon was started with.
#[derive(Clone, Debug)]
pub struct Variables {
    /// All of it.
    pub(crate) all: Environment,
    /// What every start begins with, whoever asks for it.
    pub(super) base: Environment,
    is_borrowed: bool,
}

impl Variables {
    /// Somebody has set them for the daemon.
    #[must_use]
    pub fn meant(env: Environment) -> Self {
        Self { base: env.clone(), all: env, is_borrowed: false }
    }

    /// The shell had them that happened to need a daemon first.
    #[must_use]
    pub fn borrowed(env: Environment) -> Self {
        Self { is_borrowed: true, ..Self::meant(env) }
    }

    /// What a provider reads of a borrowed environment is that caller's, like what other callers
    /// bring along themselves: keys and homes of others would be used without a word.
    pub(super) fn without_callers(mut self, config: &Config) -> Self {
        if self.is_borrowed {
            declared(config).for_each(|name| drop(self.base.0.remove(&*name)));
        }
        self
    }
}

/// The variables of a caller's that some provider reads.
pub(super) fn declared(config: &Config) -> impl Iterator<Item = Name> {
    let own = providers::ALL.iter().flat_map(|provider| provider.environment());
    let more = config.environment.values().flatten();
    own.map(|name| Name::from(*name)).chain(more.map(|name| Name::from(name.clone())))
}
