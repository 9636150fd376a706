//! Directories of projects and callers, which may be on any disk: one that does not answer holds
//! up nothing but itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessd_proto::Fault;

use super::patience::{Gate, Unanswered};

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
    use crate::registry::patience::CHECK;

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
