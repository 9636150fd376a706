//! Homes that a caller's environment selects. Knows nothing of the call itself.

use std::sync::Arc;

use sessd_proto::{Environment, Fault};

use super::Discovery;
use crate::registry::homes::Remember;

impl Discovery {
    /// Remembers the homes of a caller, and sweeps in the background if one of them is new.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn remember_caller(self: &Arc<Self>, env: &Environment) -> Result<(), Fault> {
        if self.homes.remember(env, Remember::Existing).await? {
            let discovery = Arc::clone(self);
            // Not awaited: the caller came for a session, not for the whole home.
            tokio::spawn(async move { discovery.sweep().await.map(drop) });
        }
        Ok(())
    }
}
