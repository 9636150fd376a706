//! Homes that a caller's environment selects. Knows nothing of the call itself.

use std::sync::Arc;
use std::time::Duration;

use sessd_proto::{Environment, Fault};
use tokio::time::timeout;

use super::{Discovery, FIRST_SWEEP_TIMEOUT};
use crate::registry::homes::Remember;

/// Interval for checking whether a new home was swept.
const SWEEP_POLL_INTERVAL: Duration = Duration::from_millis(20);

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

    /// Remembers the homes of a caller, and waits until each of them was swept once. Returns false
    /// if that takes so long that it goes on in the background.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn find_homes(self: &Arc<Self>, env: &Environment) -> Result<bool, Fault> {
        self.remember_caller(env).await?;
        let swept = async {
            while !self.homes.are_swept(env).await? {
                tokio::time::sleep(SWEEP_POLL_INTERVAL).await;
            }
            Ok(true)
        };
        timeout(FIRST_SWEEP_TIMEOUT, swept).await.unwrap_or(Ok(false))
    }
}
