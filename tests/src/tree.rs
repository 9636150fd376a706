//! Snapshots of directory trees, to prove that nothing in one was changed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirEntry, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every file below a directory with its bytes, size, mode and mtime, and every directory with
/// its mode and mtime; one readable line each.
#[derive(Clone, PartialEq, Eq)]
pub struct TreeHash {
    lines: BTreeSet<String>,
}

/// Reads a tree. Changes nothing in it but access times.
pub fn tree_hash(path: &Path) -> TreeHash {
    let mut lines = BTreeSet::new();
    add(path, path, &mut lines);
    TreeHash { lines }
}

impl TreeHash {
    /// Panics with the lines that differ, if the tree has changed.
    #[track_caller]
    pub fn assert_same_as(&self, before: &Self) {
        let gone = before.lines.difference(&self.lines).map(|line| format!("- {line}\n"));
        let new = self.lines.difference(&before.lines).map(|line| format!("+ {line}\n"));
        let changes: String = gone.chain(new).collect();
        assert!(changes.is_empty(), "the tree was changed:\n{changes}");
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Returns every file below a directory, none if there is no such directory.
pub fn files_below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let below = |entry: DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        _ => vec![entry.path()],
    };
    entries.flat_map(below).collect()
}

fn add(root: &Path, path: &Path, lines: &mut BTreeSet<String>) {
    let metadata = fs::symlink_metadata(path).expect("a tree that stands still");
    let content = if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("a readable directory") {
            add(root, &entry.expect("a readable entry").path(), lines);
        }
        "directory".to_owned()
    } else if metadata.is_file() {
        let bytes = fs::read(path).expect("a readable file");
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        format!("{} bytes {:016x}", bytes.len(), hasher.finish())
    } else {
        fs::read_link(path).map_or("special".to_owned(), |to| format!("-> {}", to.display()))
    };
    let name = path.strip_prefix(root).unwrap_or(path).display();
    lines.insert(format!("./{name} {:o} {content} {}", metadata.mode(), mtime(&metadata)));
}

fn mtime(metadata: &Metadata) -> String {
    format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_shows() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("folder/file");
        fs::create_dir(root.path().join("folder")).unwrap();
        fs::write(&file, "one").unwrap();
        let before = tree_hash(root.path());
        tree_hash(root.path()).assert_same_as(&before);
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        fs::File::open(&file).unwrap().set_modified(modified).unwrap();
        assert_ne!(tree_hash(root.path()), before);
        fs::write(&file, "one").unwrap();
        assert_ne!(tree_hash(root.path()), before);
    }
}
