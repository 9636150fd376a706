//! A disk of a few megabytes that a test can fill, in the place of a directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{report, tools};

/// A small file system in memory; it is unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts it over a directory, which is made if it is missing. Returns `None`, reported as a
    /// skip, if the machine does not allow mounts.
    pub fn mount(path: &Path, megabytes: u32) -> Option<Self> {
        if !tools::require_root("a disk of our own") {
            return None;
        }
        fs::create_dir_all(path).expect("our own directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=700"), "tmpfs"]);
        let mounted = mount.arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            report::not_permitted("a disk of our own needs mounts");
            return None;
        }
        Some(Self { path: path.to_owned() })
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self) {
        let mut filler = File::options().append(true).create(true).open(self.filler());
        let filler = filler.as_mut().expect("our own file");
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Frees the space again.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("our own file");
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
