//! Directories of projects and callers, which may be on any disk: one that does not answer holds
//! up nothing but itself.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessd_proto::Fault;

use super::Registry;
use super::patience::{CHECK, Gate, Unanswered};
use super::sessions::project_root;

/// Disks that have a gate of their own while somebody is in it. The others share one: every gate
/// may cost threads for good.
const GATES: usize = 4;

/// The ways to all directories outside the homes: one for each mounted disk.
#[derive(Debug, Default)]
pub(super) struct Places {
    gates: Mutex<HashMap<PathBuf, Arc<Gate>>>,
    shared: Arc<Gate>,
}

impl Places {
    /// Asks about a path where that may hang; see [`Gate::pass`].
    pub(super) async fn pass<T: Send + 'static>(
        &self,
        path: &Path,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, Unanswered>, Fault> {
        self.gate(disk_of(&mounts(), path)).pass(limit, call).await
    }

    fn gate(&self, disk: &Path) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(disk) {
            return Arc::clone(gate);
        }
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_empty());
        if gates.len() == GATES {
            return Arc::clone(&self.shared);
        }
        Arc::clone(gates.entry(disk.to_owned()).or_default())
    }
}

/// What a launch directory is, looked up once in a sweep.
pub(super) struct Place {
    /// Unknown if its disk does not answer.
    pub(super) exists: Option<bool>,
    pub(super) project: String,
}

/// Every launch directory that a sweep has met.
pub(super) type Met = HashMap<String, Place>;

impl Registry {
    /// Looks at the directories that were not met before, those of one disk in one go.
    pub(super) async fn meet<'a>(
        &self,
        dirs: impl Iterator<Item = &'a String>,
        met: &mut Met,
    ) -> Result<(), Fault> {
        let new: HashSet<&String> = dirs.filter(|dir| !met.contains_key(*dir)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mounts = mounts();
        let mut disks = HashMap::<&Path, Vec<String>>::new();
        for dir in new {
            disks.entry(disk_of(&mounts, Path::new(dir))).or_default().push(dir.clone());
        }
        for (disk, dirs) in disks {
            let unknown = |dir: &String| Place { exists: None, project: dir.clone() };
            let places: Vec<_> = dirs.iter().map(unknown).collect();
            let asked = dirs.clone();
            let look = move || asked.iter().map(|dir| look_at(dir)).collect();
            let seen = self.elsewhere.gate(disk).pass(CHECK, look).await?;
            met.extend(dirs.into_iter().zip(seen.unwrap_or(places)));
        }
        Ok(())
    }

    /// Whether a directory is there; `None` if its disk does not answer.
    pub(super) async fn is_dir(&self, dir: &str) -> Result<Option<bool>, Fault> {
        let path = PathBuf::from(dir);
        let asked = path.clone();
        Ok(self.elsewhere.pass(&path, CHECK, move || asked.is_dir()).await?.ok())
    }
}

fn look_at(dir: &str) -> Place {
    Place { exists: Some(Path::new(dir).is_dir()), project: project_root(dir) }
}

/// Where something is mounted, as the kernel knows without asking any disk.
fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescaped);
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// The mount point that a path is below, by its name alone.
fn disk_of<'a>(mounts: &'a [PathBuf], path: &Path) -> &'a Path {
    let above = mounts.iter().filter(|mount| path.starts_with(mount));
    above.max_by_key(|mount| mount.as_os_str().len()).map_or(Path::new("/"), PathBuf::as_path)
}

/// A name as the kernel means it: blanks and backslashes are written in octal.
fn unescaped(name: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = ["/", "/mnt", "/mnt/dead disk"].map(PathBuf::from);
        for (path, disk) in [
            ("/mnt/dead disk/work", "/mnt/dead disk"),
            ("/mnt/dead disks", "/mnt"),
            ("/home/me", "/"),
        ] {
            assert_eq!(disk_of(&mounts, Path::new(path)), Path::new(disk), "{path}");
        }
        assert_eq!(unescaped(br"/mnt/dead\040disk\134\x"), Path::new(r"/mnt/dead disk\\x"));
        assert!(super::mounts().contains(&PathBuf::from("/")));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_no_other_and_few_gates_are_kept() {
        const SOON: Duration = Duration::from_millis(20);
        let places = Places::default();
        let mut answers = Vec::new();
        for disk in 0..3 * GATES {
            let (answer, until_answered) = mpsc::channel::<()>();
            answers.push(answer);
            let gate = places.gate(Path::new(&format!("/{disk}")));
            let hung = gate.pass(SOON, move || until_answered.recv().is_ok()).await;
            assert_eq!(hung.unwrap(), Err(Unanswered::Hangs));
            if disk + 1 < GATES {
                let other = places.gate(Path::new("/well")).pass(CHECK, || 1).await;
                assert_eq!(other.unwrap(), Ok(1), "beside {disk}");
            }
        }
        assert_eq!(places.gates.lock().unwrap().len(), GATES);
        drop(answers);
    }
}
