//! The job that checks which sessions can still be resumed, oldest check first.

use std::sync::Arc;

use serde_json::{Value, json};
use sessd_proto::Fault;

use crate::registry::Registry;

/// Checks the sessions whose last check is oldest.
///
/// # Errors
/// Fails if the registry cannot be read or written.
pub(super) async fn run(registry: Arc<Registry>) -> Result<Value, Fault> {
    let (checked, changed) = registry.discovery.check_oldest().await?;
    Ok(json!({ "checked": checked, "changed": changed }))
}
