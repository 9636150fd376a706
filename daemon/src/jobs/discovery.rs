//! The job that sweeps every home, and the watch that makes it feel instant.
//!
//! File notifications are hints: they overflow, and miss files in new directories. The sweep
//! every minute is the truth.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use sessd_proto::Fault;
use tokio::sync::Notify;

use crate::registry::Registry;

/// Changes come in bursts: wait for this long before a sweep.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Rest for this many times as long as a sweep took: a busy home must not keep us busy.
const REST: u32 = 10;

/// New homes are watched after at most this long.
const REFRESH: Duration = Duration::from_secs(60);

pub(super) async fn run(registry: Arc<Registry>) -> Result<Value, Fault> {
    Ok(json!({ "homes": registry.discovery.sweep().await? }))
}

/// Sweeps soon after something changes in a home.
pub(super) fn watch(registry: Arc<Registry>) {
    tokio::spawn(async move {
        // One permit however many events: a burst cannot fill anything.
        let changed = Arc::new(Notify::new());
        let hint = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is no change. Errors are overflows, so they are hints as well.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                hint.notify_one();
            }
        });
        let Ok(watcher) = watcher.inspect_err(|error| {
            tracing::warn!("cannot watch for changes, sweeps go on: {error}");
        }) else {
            return;
        };
        let mut watch = Watch { watcher, dirs: HashSet::new() };
        loop {
            let Some(refreshed) = refresh(&registry, watch).await else { return };
            watch = refreshed;
            if tokio::time::timeout(REFRESH, changed.notified()).await.is_err() {
                continue;
            }
            tokio::time::sleep(DEBOUNCE).await;
            // What is made in a new directory before it is watched is found by the sweep.
            let Some(refreshed) = refresh(&registry, watch).await else { return };
            watch = refreshed;
            let started = Instant::now();
            if let Err(fault) = registry.discovery.sweep().await {
                tracing::warn!("sweep: {fault}");
            }
            tokio::time::sleep(started.elapsed() * REST).await;
        }
    });
}

/// The directories that are watched.
struct Watch {
    watcher: RecommendedWatcher,
    dirs: HashSet<PathBuf>,
}

/// Watches what is new. A disk that hangs holds this up, and with it the hints, nothing else.
async fn refresh(registry: &Registry, mut watch: Watch) -> Option<Watch> {
    let Ok(wanted) = registry.homes.watched().await else { return Some(watch) };
    let refreshed = tokio::task::spawn_blocking(move || {
        watch.dirs.retain(|dir| dir.is_dir());
        for dir in wanted.into_iter().filter(|dir| dir.is_dir()) {
            if watch.dirs.contains(&dir) {
                continue;
            }
            if let Err(error) = watch.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                tracing::warn!("cannot watch {}, sweeps go on: {error}", dir.display());
            }
            // Tried once, so that the log does not fill with what will not change.
            watch.dirs.insert(dir);
        }
        watch
    });
    refreshed.await.ok()
}
