//! Directory listings that are either complete or an error: a part that cannot be read must never
//! look like an empty one. Knows no provider.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use super::{Listed, Stamp, Unreadable};

/// Minimum number of folders for which a second thread pays off.
const SECOND_THREAD_MIN: usize = 32;

/// An entry of a directory.
pub struct Entry {
    entry: fs::DirEntry,
}

impl Entry {
    /// Returns the name; empty if it is not UTF-8, which no provider writes.
    #[must_use]
    pub fn name(&self) -> String {
        self.entry.file_name().into_string().unwrap_or_default()
    }

    /// Returns the whole path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// True if it is a directory or a link to one.
    ///
    /// # Errors
    /// Fails if the type of the entry cannot be read.
    pub fn is_dir(&self) -> Result<bool, Unreadable> {
        let kind = self.entry.file_type().map_err(|error| denied(&self.path(), &error))?;
        if !kind.is_symlink() {
            return Ok(kind.is_dir());
        }
        Ok(self.metadata()?.is_some_and(|metadata| metadata.is_dir()))
    }

    /// Returns this entry as a transcript; `None` if it is not a regular file or has disappeared.
    ///
    /// # Errors
    /// Fails if it exists but its fingerprint cannot be read.
    pub fn listed(&self) -> Result<Option<Listed>, Unreadable> {
        let Some(metadata) = self.metadata()?.filter(fs::Metadata::is_file) else {
            return Ok(None);
        };
        let Ok(location) = self.path().into_os_string().into_string() else { return Ok(None) };
        Ok(Some(Listed { location, stamp: Stamp::of(&metadata) }))
    }

    /// Returns `None` if the entry has disappeared. A dangling link is an error: its target may be
    /// on a disk that is not mounted now.
    fn metadata(&self) -> Result<Option<fs::Metadata>, Unreadable> {
        let found = match self.entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.is_symlink() => fs::metadata(self.path()),
            found => found,
        };
        found.map(Some).map_err(|error| denied(&self.path(), &error))
    }
}

/// Returns the entries of a store's root.
///
/// # Errors
/// [`Unreadable::Missing`] if it does not exist; [`Unreadable::Denied`] if it cannot be listed.
pub fn root(path: &Path) -> Result<Vec<Entry>, Unreadable> {
    read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Unreadable::Missing,
        _ => denied(path, &error),
    })
}

/// Returns the entries of a directory; none if it does not exist.
///
/// # Errors
/// Fails if it exists but cannot be listed.
pub fn entries(path: &Path) -> Result<Vec<Entry>, Unreadable> {
    match read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        read => read.map_err(|error| denied(path, &error)),
    }
}

/// Returns what `list` finds in each of these entries. With many entries half of them go to a
/// second thread: a home of ten thousand transcripts takes some 50 ms of `readdir` and `stat`.
///
/// # Errors
/// Fails with the first error of `list`.
pub fn each(
    mut entries: Vec<Entry>,
    list: fn(Entry, &mut Vec<Listed>) -> Result<(), Unreadable>,
) -> Result<Vec<Listed>, Unreadable> {
    let all = move |entries: Vec<Entry>| {
        let mut found = Vec::new();
        entries.into_iter().try_for_each(|entry| list(entry, &mut found)).map(|()| found)
    };
    if entries.len() < SECOND_THREAD_MIN {
        return all(entries);
    }
    let half = entries.split_off(entries.len() / 2);
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(move || all(half));
        (all(entries), second.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let mut found = first?;
    found.append(&mut second?);
    Ok(found)
}

/// Adds every transcript whose name is `wanted`, at most `depth` directories down.
///
/// # Errors
/// Fails if anything on the way cannot be listed.
pub fn walk(
    entries: Vec<Entry>,
    depth: usize,
    wanted: fn(&str) -> bool,
    into: &mut Vec<Listed>,
) -> Result<(), Unreadable> {
    for entry in entries {
        if wanted(&entry.name()) {
            into.extend(entry.listed()?);
        } else if depth > 0 && entry.is_dir()? {
            walk(self::entries(&entry.path())?, depth - 1, wanted, into)?;
        }
    }
    Ok(())
}

/// Returns the directories in a directory; unreadable ones are left out.
#[must_use]
pub fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = entries(path).unwrap_or_default();
    entries.iter().filter(|entry| entry.is_dir() == Ok(true)).map(Entry::path).collect()
}

/// Skips hidden names: they are never transcripts, but editors leave dangling links there.
fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(Entry { entry: entry? }));
    let is_hidden = |entry: &Entry| entry.entry.file_name().as_bytes().starts_with(b".");
    entries.filter(|entry| !entry.as_ref().is_ok_and(is_hidden)).collect()
}

fn denied(path: &Path, error: &io::Error) -> Unreadable {
    Unreadable::Denied(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlistable_folder_is_an_error_not_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(root(&path.join("none")), Err(Unreadable::Missing)));
        let walk = |wanted| walk(root(path).unwrap(), 3, wanted, &mut Vec::new());
        std::os::unix::fs::symlink("nowhere", path.join(".#edited")).unwrap();
        assert_eq!(walk(|_| true), Ok(()));
        std::os::unix::fs::symlink("unmounted", path.join("link")).unwrap();
        assert!(matches!(walk(|_| true), Err(Unreadable::Denied(_))));
        assert!(matches!(walk(|_| false), Err(Unreadable::Denied(_))));
    }
}
