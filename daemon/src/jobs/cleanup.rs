//! The job that removes expired items. Its result counts them; the event log has each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sessd_proto::Fault;
use sessd_proto::cleanup::CleanupRequest;

use crate::registry::Registry;

/// Carries out a cleanup.
///
/// # Errors
/// Fails if the registry cannot be read or written.
pub(super) async fn run(registry: Arc<Registry>) -> Result<Value, Fault> {
    let report = registry.sessions.cleanup(CleanupRequest { dry_run: false }).await?;
    let mut counts = BTreeMap::new();
    for action in report.actions {
        *counts.entry(action.action.as_str()).or_default() += action.count.unwrap_or(1);
    }
    let counts: BTreeMap<&str, i64> = counts;
    Ok(json!({ "done": counts, "held": report.held }))
}
