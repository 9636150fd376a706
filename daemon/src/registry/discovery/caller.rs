//! Homes that a caller's environment selects. Knows nothing of the call itself.

use std::sync::Arc;

use sessd_proto::{Environment, Fault};
use tokio::time::timeout;

use super::{Discovery, FIRST_SWEEP_TIMEOUT};
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

    /// Remembers the homes of a caller, and sweeps if one of them is new. Returns false if that
    /// sweep takes so long that it goes on in the background.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn find_homes(self: &Arc<Self>, env: &Environment) -> Result<bool, Fault> {
        if !self.homes.remember(env, Remember::Existing).await? {
            return Ok(true);
        }
        let discovery = Arc::clone(self);
        let sweep = tokio::spawn(async move { discovery.sweep().await.map(drop) });
        // A home that cannot be swept is named by the list.
        Ok(timeout(FIRST_SWEEP_TIMEOUT, sweep).await.is_ok())
    }
}
