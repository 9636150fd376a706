//! A disk that does not answer, in the place of a directory: every process that reads it hangs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{report, tools};

/// A file system whose server never responds; hung processes continue when it is dropped.
pub struct HungDisk {
    path: PathBuf,
    server: Option<File>,
}

impl HungDisk {
    /// Mounts it over a directory, which is made if it is missing. Returns `None`, reported as a
    /// skip, if the machine does not allow mounts.
    pub fn mount(path: &Path) -> Option<Self> {
        if !tools::require_root("a file system of our own") {
            return None;
        }
        fs::create_dir_all(path).expect("our own directory");
        let Some(server) = try_mount(path) else {
            report::not_permitted("a file system of our own needs /dev/fuse and mounts");
            return None;
        };
        Some(Self { path: path.to_owned(), server: Some(server) })
    }
}

fn try_mount(path: &Path) -> Option<File> {
    let server = File::options().read(true).write(true).open("/dev/fuse").ok()?;
    // Its standard input is the server's side.
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "hung"]);
    let output = mount.arg(path).stdin(server.try_clone().ok()?).output();
    output.is_ok_and(|output| output.status.success()).then_some(server)
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        // First, since unmounting reads the file system.
        drop(self.server.take());
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
