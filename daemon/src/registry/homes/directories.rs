//! Access to project and caller directories. Each mounted disk has a gate of its own, so that one
//! hung disk blocks nothing else. Knows no home and no session.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessd_proto::{Fault, FaultCode};

use super::gate::{CHECK_TIMEOUT, Gate, LIVE_TIMEOUT, Unanswered};

/// The most disks that have a gate of their own at the same time. All others share one, since
/// every gate may cost threads for good.
const GATES_MAX: usize = 4;

/// All directories outside the homes, with one gate per mounted disk.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    gates: Mutex<HashMap<PathBuf, Arc<Gate>>>,
    shared: Arc<Gate>,
}

impl Directories {
    /// Runs a call that touches `path`, behind the gate of its disk; see [`Gate::pass`].
    ///
    /// # Errors
    /// Fails if the call panics.
    pub(crate) async fn pass<T: Send + 'static>(
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
        if gates.len() == GATES_MAX {
            return Arc::clone(&self.shared);
        }
        Arc::clone(gates.entry(disk.to_owned()).or_default())
    }

    /// Looks up the directories that are not in the cache yet, those of one disk in one call.
    ///
    /// # Errors
    /// Fails if a lookup panics.
    pub(crate) async fn look_up<'a>(
        &self,
        dirs: impl Iterator<Item = &'a String>,
        cache: &mut DirCache,
    ) -> Result<(), Fault> {
        let new: HashSet<&String> = dirs.filter(|dir| !cache.contains_key(*dir)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mounts = mounts();
        let mut disks = HashMap::<&Path, Vec<String>>::new();
        for dir in new {
            disks.entry(disk_of(&mounts, Path::new(dir))).or_default().push(dir.clone());
        }
        for (disk, dirs) in disks {
            let unknown = |dir: &String| DirInfo { exists: None, project: dir.clone() };
            let unknown: Vec<_> = dirs.iter().map(unknown).collect();
            let asked = dirs.clone();
            let look = move || asked.iter().map(|dir| dir_info(dir)).collect();
            let seen = self.gate(disk).pass(CHECK_TIMEOUT, look).await?;
            cache.extend(dirs.into_iter().zip(seen.unwrap_or(unknown)));
        }
        Ok(())
    }

    /// True if a directory exists; `None` if its disk does not answer.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn is_dir(&self, dir: &str) -> Result<Option<bool>, Fault> {
        let path = PathBuf::from(dir);
        let asked = path.clone();
        Ok(self.pass(&path, CHECK_TIMEOUT, move || asked.is_dir()).await?.ok())
    }

    /// Returns a directory with its links resolved; `None` if it does not exist or its disk does
    /// not answer.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn real_path(&self, dir: &str) -> Result<Option<String>, Fault> {
        let path = PathBuf::from(dir);
        let asked = path.clone();
        let real = self.pass(&path, CHECK_TIMEOUT, move || asked.canonicalize().ok()).await?;
        Ok(real.ok().flatten().and_then(|real| real.into_os_string().into_string().ok()))
    }

    /// Returns the project of a directory: its git top level, else the directory itself.
    ///
    /// # Errors
    /// Fails if the directory's disk does not answer.
    pub(crate) async fn project_of(&self, dir: &str) -> Result<String, Fault> {
        let path = dir.to_owned();
        let look = move || project_root(&path);
        let project = self.pass(Path::new(dir), LIVE_TIMEOUT, look).await?;
        project.map_err(|_| disk_hangs(dir))
    }
}

/// A launch directory, looked up once in a sweep.
pub(crate) struct DirInfo {
    /// `None` if its disk does not answer.
    pub(crate) exists: Option<bool>,
    pub(crate) project: String,
}

/// Launch directories that were looked up during one sweep.
pub(crate) type DirCache = HashMap<String, DirInfo>;

fn dir_info(dir: &str) -> DirInfo {
    DirInfo { exists: Some(Path::new(dir).is_dir()), project: project_root(dir) }
}

/// Returns the git top level above a directory, else the directory itself.
fn project_root(dir: &str) -> String {
    let dir = PathBuf::from(dir);
    let real = dir.canonicalize().unwrap_or(dir);
    let top = real.ancestors().find(|ancestor| ancestor.join(".git").exists());
    top.unwrap_or(&real).to_string_lossy().into_owned()
}

/// Returns the fault for a disk that hangs. Its code is not `Deadline`: the request was refused, so
/// nothing is still running.
pub(crate) fn disk_hangs(dir: &str) -> Fault {
    let what = format!("the disk of {dir} does not answer");
    let fault = Fault::new(FaultCode::Environment, what)
        .hint("try another directory, or list all sessions: `sessctl list`");
    Fault { retryable: Some(true), ..fault }
}

/// Returns all mount points, which the kernel lists without touching a disk.
fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescaped);
    table.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// Returns the mount point above a path, by comparing names only.
fn disk_of<'a>(mounts: &'a [PathBuf], path: &Path) -> &'a Path {
    let above = mounts.iter().filter(|mount| path.starts_with(mount));
    above.max_by_key(|mount| mount.as_os_str().len()).map_or(Path::new("/"), PathBuf::as_path)
}

/// Decodes a name from `mountinfo`, where blanks and backslashes are written in octal.
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
    fn innermost_mount_decides() {
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
    async fn hung_disk_blocks_no_other_and_few_gates_are_kept() {
        const SOON: Duration = Duration::from_millis(20);
        let directories = Directories::default();
        let mut answers = Vec::new();
        for disk in 0..3 * GATES_MAX {
            let (answer, until_answered) = mpsc::channel::<()>();
            answers.push(answer);
            let gate = directories.gate(Path::new(&format!("/{disk}")));
            let hung = gate.pass(SOON, move || until_answered.recv().is_ok()).await;
            assert_eq!(hung.unwrap(), Err(Unanswered::Hangs));
            if disk + 1 < GATES_MAX {
                let other = directories.gate(Path::new("/well")).pass(CHECK_TIMEOUT, || 1).await;
                assert_eq!(other.unwrap(), Ok(1), "beside {disk}");
            }
        }
        assert_eq!(directories.gates.lock().unwrap().len(), GATES_MAX);
        drop(answers);
    }
}
