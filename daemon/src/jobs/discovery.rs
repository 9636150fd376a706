//! The job that sweeps every home, and a file watcher that triggers sweeps between its runs.
//!
//! File notifications are hints: they overflow, and miss files in new directories. The scheduled
//! sweep finds everything.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// The longest pause: a disk that hangs must not delay what happens on others.
const PAUSE_MAX: Duration = Duration::from_secs(5);

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
        let files = Arc::new(Files::default());
        let counted = Arc::clone(&files);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading is not a change. Errors are overflows, so they count as changes.
            if !event.is_ok_and(|event| event.kind.is_access() || counted.ignores(&event)) {
                hint.notify_one();
            }
        });
        let Ok(watcher) = watcher.inspect_err(|error| {
            tracing::warn!("cannot watch for changes, sweeps go on: {error}");
        }) else {
            return;
        };
        let mut watch = Watch { watcher, dirs: HashSet::new(), files, has_new: false };
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
            // Not the time that it waits for another sweep.
            let took = match registry.discovery.sweep().await {
                Ok(sweeps) => sweeps.iter().fold(Duration::ZERO, |sum, it| sum + it.duration()),
                Err(fault) => {
                    tracing::warn!("sweep: {fault}");
                    PAUSE_MAX
                }
            };
            tokio::time::sleep((took * PAUSE_FACTOR).min(PAUSE_MAX)).await;
        }
    });
}

/// The directories that are watched.
struct Watch {
    watcher: RecommendedWatcher,
    dirs: HashSet<PathBuf>,
    files: Arc<Files>,
    /// True if the last refresh has added a directory.
    has_new: bool,
}

/// Single files that are watched, and directories that do not exist yet. The directory that holds
/// them is watched for them, but nothing else in it counts.
#[derive(Default)]
struct Files(Mutex<Wanted>);

#[derive(Default)]
struct Wanted {
    files: HashSet<PathBuf>,
    /// The directories that are watched only for them.
    parents: HashSet<PathBuf>,
}

impl Files {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the files by others; returns the directories to watch for them.
    fn replace(&self, files: Vec<PathBuf>, dirs: &[PathBuf]) -> Vec<PathBuf> {
        let mut wanted = self.wanted();
        let parents = files.iter().filter_map(|file| file.parent().map(Path::to_owned));
        let parents: Vec<_> = parents.filter(|dir| dir.is_dir() && !dirs.contains(dir)).collect();
        wanted.parents.extend(parents.iter().cloned());
        wanted.parents.retain(|dir| !dirs.contains(dir));
        wanted.files = files.into_iter().collect();
        parents
    }

    /// True for a change beside a watched file.
    fn ignores(&self, event: &Event) -> bool {
        let wanted = self.wanted();
        let is_beside = |path: &PathBuf| {
            let is_in = path.parent().is_some_and(|dir| wanted.parents.contains(dir));
            is_in && !wanted.files.contains(path)
        };
        !event.paths.is_empty() && event.paths.iter().all(is_beside)
    }
}

/// Starts to watch new directories. A disk that hangs blocks only this task. Returns `None` if the
/// watcher has panicked.
async fn refresh(registry: &Registry, mut watch: Watch) -> Option<Watch> {
    let Ok(wanted) = registry.homes.watched_directories().await else { return Some(watch) };
    let refreshed = tokio::task::spawn_blocking(move || {
        watch.dirs.retain(|dir| dir.is_dir());
        watch.has_new = false;
        let (dirs, files): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|path| path.is_dir());
        let parents = watch.files.replace(files, &dirs);
        for dir in dirs.into_iter().chain(parents) {
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
