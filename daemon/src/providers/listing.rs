//! Directory listings that name every part they could not read: such a part must never look like an
//! empty one, and must not hide the others. Knows no provider.
//!
//! A name that is missing is nothing. A name that leads nowhere is not: the target of a dangling
//! link may be on a disk that is not mounted now. So a link is a gap wherever its target cannot be
//! read, for an entry as well as for a folder that belongs to the layout of a store.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use super::{FileId, Gap, Listed, Listing, Stamp, Unreadable};

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
    fn is_dir(&self) -> io::Result<bool> {
        let kind = self.entry.file_type()?;
        if !kind.is_symlink() {
            return Ok(kind.is_dir());
        }
        Ok(self.metadata()?.is_some_and(|metadata| metadata.is_dir()))
    }

    /// Returns this entry as a transcript; `None` if it is not a regular file or has disappeared.
    fn listed(&self) -> io::Result<Option<Listed>> {
        let Some(metadata) = self.metadata()?.filter(fs::Metadata::is_file) else {
            return Ok(None);
        };
        let Ok(location) = self.path().into_os_string().into_string() else { return Ok(None) };
        let (stamp, file) = (Stamp::of(&metadata), FileId::of(&metadata));
        Ok(Some(Listed { location, stamp, file }))
    }

    /// Returns `None` if the entry has disappeared.
    fn metadata(&self) -> io::Result<Option<fs::Metadata>> {
        match self.entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Ok(metadata) if metadata.is_symlink() => fs::metadata(self.path()).map(Some),
            found => found.map(Some),
        }
    }
}

impl Listing {
    /// Adds an entry as a transcript, unless it is not a regular file.
    pub fn add(&mut self, entry: &Entry) {
        match entry.listed() {
            Ok(listed) => self.transcripts.extend(listed),
            Err(error) => self.gap(entry.path(), &error),
        }
    }

    /// True if an entry is a directory, or a link to one.
    pub fn is_dir(&mut self, entry: &Entry) -> bool {
        entry.is_dir().unwrap_or_else(|error| {
            self.gap(entry.path(), &error);
            false
        })
    }

    /// Returns the entries of a directory; none if it does not exist.
    pub fn entries(&mut self, path: &Path) -> Vec<Entry> {
        read(path).unwrap_or_else(|error| {
            if !is_nothing(path, &error) {
                self.gap(path.to_owned(), &error);
            }
            Vec::new()
        })
    }

    /// Adds every transcript whose name is `wanted`, at most `depth` directories down.
    pub fn walk(&mut self, entries: Vec<Entry>, depth: usize, wanted: fn(&str) -> bool) {
        for entry in entries {
            if wanted(&entry.name()) {
                self.add(&entry);
            } else if depth > 0 && self.is_dir(&entry) {
                let below = self.entries(&entry.path());
                self.walk(below, depth - 1, wanted);
            }
        }
    }

    /// Lets the gaps at or below `path` hide everything below `hides`: for folders between which
    /// a provider moves its transcripts.
    pub fn widen_gaps(&mut self, path: &Path, hides: &Path) {
        let inside = self.gaps.iter_mut().filter(|gap| gap.path.starts_with(path));
        inside.for_each(|gap| gap.hides = hides.to_owned());
    }

    fn gap(&mut self, path: PathBuf, error: &io::Error) {
        self.gaps.push(Gap::of(path, error));
    }

    fn append(&mut self, mut other: Self) {
        self.transcripts.append(&mut other.transcripts);
        self.gaps.append(&mut other.gaps);
    }
}

/// Returns the entries of a store's root.
///
/// # Errors
/// [`Unreadable::Missing`] if it does not exist; [`Unreadable::Denied`] if it cannot be listed.
pub fn root(path: &Path) -> Result<Vec<Entry>, Unreadable> {
    read(path).map_err(|error| match is_nothing(path, &error) {
        true => Unreadable::Missing,
        false => Unreadable::Denied(format!("{}: {error}", path.display())),
    })
}

/// Returns what `list` finds in each of these entries. With many entries half of them go to a
/// second thread: a home of ten thousand transcripts takes some 50 ms of `readdir` and `stat`.
#[must_use]
pub fn each(mut entries: Vec<Entry>, list: fn(Entry, &mut Listing)) -> Listing {
    let all = move |entries: Vec<Entry>| {
        let mut found = Listing::default();
        entries.into_iter().for_each(|entry| list(entry, &mut found));
        found
    };
    if entries.len() < SECOND_THREAD_MIN {
        return all(entries);
    }
    let half = entries.split_off(entries.len() / 2);
    let (mut found, second) = thread::scope(|scope| {
        let second = scope.spawn(move || all(half));
        (all(entries), second.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    found.append(second);
    found
}

/// Returns the directories in a directory; unreadable ones are left out.
#[must_use]
pub fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = read(path).unwrap_or_default();
    let is_dir = |entry: &&Entry| entry.is_dir().unwrap_or_default();
    entries.iter().filter(is_dir).map(Entry::path).collect()
}

/// Returns the entries of a directory for which nothing is concluded from a missing name; none if
/// it cannot be read.
#[must_use]
pub fn readable(path: &Path) -> Vec<Entry> {
    read(path).unwrap_or_default()
}

/// True if an error means that there is nothing at a path, not even a link.
fn is_nothing(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::NotFound => !is_link_on_the_way(path),
        ErrorKind::NotADirectory => true,
        _ => false,
    }
}

/// True if the last name of the path that exists is a link, which leads nowhere then.
fn is_link_on_the_way(path: &Path) -> bool {
    let existing = path.ancestors().find_map(|path| fs::symlink_metadata(path).ok());
    existing.is_some_and(|metadata| metadata.is_symlink())
}

/// Skips hidden names: they are never transcripts, but editors leave dangling links there.
fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(Entry { entry: entry? }));
    let is_hidden = |entry: &Entry| entry.entry.file_name().as_bytes().starts_with(b".");
    entries.filter(|entry| !entry.as_ref().is_ok_and(is_hidden)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn walk(path: &Path, wanted: fn(&str) -> bool) -> Listing {
        let mut found = Listing::default();
        found.walk(root(path).unwrap(), 3, wanted);
        found
    }

    #[test]
    fn part_that_cannot_be_read_is_named_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(root(&path.join("none")), Err(Unreadable::Missing)));
        symlink("nowhere", path.join(".#edited")).unwrap();
        assert_eq!(walk(path, |_| true), Listing::default());
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/file"), "").unwrap();
        symlink("unmounted", path.join("link")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        for wanted in [(|_| true) as fn(&str) -> bool, |name| name == "file"] {
            let found = walk(path, wanted);
            let mut gaps: Vec<_> = found.gaps.iter().map(|gap| gap.path.clone()).collect();
            gaps.sort();
            assert_eq!(gaps, [path.join("link"), path.join("loop")]);
            let at = |name: &str| path.join(name).to_string_lossy().into_owned();
            assert!(found.hides(&at("link/x")) && found.hides(&at("loop")));
            assert!(!found.hides(&at("a/gone")) && !found.hides(&at("linked")));
        }
        assert_eq!(walk(path, |name| name == "file").transcripts.len(), 1);
    }

    #[test]
    fn folder_of_the_layout_that_leads_nowhere_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        symlink("unmounted", path.join("chats")).unwrap();
        let mut listing = Listing::default();
        for missing in ["none", "none/deeper"] {
            assert!(listing.entries(&path.join(missing)).is_empty());
        }
        assert_eq!(listing.gaps, []);
        for hidden in ["chats", "chats/archive"] {
            listing.entries(&path.join(hidden));
            assert_eq!(listing.gaps.pop().unwrap().path, path.join(hidden));
            assert!(matches!(root(&path.join(hidden)), Err(Unreadable::Denied(_))));
        }
    }
}
