//! The job that sweeps every home, and a file watcher that triggers sweeps between its runs.
//!
//! File notifications are hints: they overflow, and miss files in new directories. The scheduled
//! sweep finds everything.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use sessd_proto::Fault;
use tokio::sync::Notify;

use crate::registry::Registry;

/// Wait between a change and the sweep, as changes come in bursts.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Pause after a sweep, as a multiple of its duration: at most 9 % of the time is spent on homes
/// that change all the time.
const PAUSE_FACTOR: u32 = 10;

/// Interval for looking for new directories to watch.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps every home.
///
/// # Errors
/// Fails if the registry cannot be read or written, or if one home cannot be swept.
pub(super) async fn run(registry: Arc<Registry>) -> Result<Value, Fault> {
    Ok(json!({ "homes": registry.discovery.sweep().await? }))
}

/// Sweeps soon after something changes in a home.
pub(super) fn watch(registry: Arc<Registry>) {
    tokio::spawn(async move {
        // Holds a single permit, so a burst of events takes no memory.
        let changed = Arc::new(Notify::new());
        let hint = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading is not a change. Errors are overflows, so they count as changes.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                hint.notify_one();
            }
        });
        let Ok(watcher) = watcher.inspect_err(|error| {
            tracing::warn!("cannot watch for changes, sweeps go on: {error}");
        }) else {
            return;
        };
        let mut watch = Watch { watcher, dirs: HashSet::new(), has_new: false };
        loop {
            let Some(refreshed) = refresh(&registry, watch).await else { return };
            watch = refreshed;
            // What was made in a directory before it was watched has given no hint.
            if !watch.has_new
                && tokio::time::timeout(REFRESH_INTERVAL, changed.notified()).await.is_err()
            {
                continue;
            }
            tokio::time::sleep(DEBOUNCE).await;
            // Before the sweep, which finds files made in a directory before it is watched.
            let Some(refreshed) = refresh(&registry, watch).await else { return };
            watch = refreshed;
            let started = Instant::now();
            if let Err(fault) = registry.discovery.sweep().await {
                tracing::warn!("sweep: {fault}");
            }
            tokio::time::sleep(started.elapsed() * PAUSE_FACTOR).await;
        }
    });
}

/// The directories that are watched.
struct Watch {
    watcher: RecommendedWatcher,
    dirs: HashSet<PathBuf>,
    /// True if the last refresh has added a directory.
    has_new: bool,
}

/// Starts to watch new directories. A disk that hangs blocks only this task. Returns `None` if the
/// watcher has panicked.
async fn refresh(registry: &Registry, mut watch: Watch) -> Option<Watch> {
    let Ok(wanted) = registry.homes.watched_directories().await else { return Some(watch) };
    let refreshed = tokio::task::spawn_blocking(move || {
        watch.dirs.retain(|dir| dir.is_dir());
        watch.has_new = false;
        for dir in wanted.into_iter().filter(|dir| dir.is_dir()) {
            if watch.dirs.contains(&dir) {
                continue;
            }
            if let Err(error) = watch.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}, sweeps go on: {error}", dir.display());
            }
            // Tried once only, so that a lasting failure does not fill the log.
            watch.has_new |= watch.dirs.insert(dir);
        }
        watch
    });
    refreshed.await.ok()
}
