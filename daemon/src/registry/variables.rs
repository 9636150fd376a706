//! The daemon's own variables: which homes they select, and what a provider gets of them.
//! Knows no variable by name.

use sessd_proto::Environment;

use crate::providers;

/// What the daemon was started with.
#[derive(Clone, Debug)]
pub struct Variables {
    /// All of it.
    pub(crate) all: Environment,
    /// What every start begins with, whoever asks for it.
    pub(super) base: Environment,
}

impl Variables {
    /// Somebody has set them for the daemon.
    #[must_use]
    pub fn meant(env: Environment) -> Self {
        Self { base: env.clone(), all: env }
    }

    /// The shell had them that happened to need a daemon first. What a provider reads of them is
    /// that caller's, like what other callers bring along themselves: keys and homes of others
    /// would be used without a word.
    #[must_use]
    pub fn borrowed(env: Environment) -> Self {
        let mut base = env.clone();
        let names = providers::ALL.iter().flat_map(|provider| provider.environment());
        names.for_each(|name| drop(base.0.remove(*name)));
        Self { base, all: env }
    }
}
