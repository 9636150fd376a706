//! The watch of a process on directories, as the kernel lists it in `/proc`. Knows no daemon.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The watch of a process on directories.
#[derive(Default)]
pub(crate) struct Watch {
    /// True once it is set up.
    pub(crate) is_ready: bool,
    /// The inodes of the watched directories.
    pub(crate) inodes: Vec<u64>,
}

impl Watch {
    /// Reads the watch of a process; `None` if its descriptors are closed to us.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let all = descriptors(pid)?;
        let of_kind = |kind: &'static str| {
            let target = PathBuf::from(format!("anon_inode:{kind}"));
            all.iter().filter(move |it| it.target == target)
        };
        let mut watch = Self::default();
        for inotify in of_kind("inotify") {
            watch.inodes.extend(inotify.about.lines().filter_map(inode));
            // Last it opens a descriptor that waits for the first one.
            let awaits = |line: &str| {
                let number = line.strip_prefix("tfd:").and_then(|it| it.split_whitespace().next());
                number.is_some_and(|number| inotify.name == number)
            };
            watch.is_ready |= of_kind("[eventpoll]").any(|it| it.about.lines().any(awaits));
        }
        Some(watch)
    }
}

/// An open file of a process.
struct Descriptor {
    name: OsString,
    target: PathBuf,
    /// The kernel's description of it, from `fdinfo`.
    about: String,
}

fn descriptors(pid: i32) -> Option<Vec<Descriptor>> {
    let process = Path::new("/proc").join(pid.to_string());
    let links = fs::read_dir(process.join("fd")).ok()?.flatten();
    let descriptor = |link: fs::DirEntry| {
        let name = link.file_name();
        let about = fs::read_to_string(process.join("fdinfo").join(&name)).ok()?;
        Some(Descriptor { target: fs::read_link(link.path()).ok()?, about, name })
    };
    Some(links.filter_map(descriptor).collect())
}

/// Parses the inode of the directory in a line about a watch.
fn inode(line: &str) -> Option<u64> {
    let words = line.strip_prefix("inotify wd:")?.split(' ');
    let inode = words.filter_map(|word| word.strip_prefix("ino:")).next()?;
    u64::from_str_radix(inode, 16).ok()
}
