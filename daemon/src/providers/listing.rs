//! Directory listings that are complete or an error, and homes. Knows no provider.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::OFlags;
use sessd_proto::Environment;

use super::{Home, Listed, Stamp, Unreadable};

/// Longer settings are not read, in bytes.
const SETTINGS_BYTES_MAX: u64 = 1024 * 1024;

/// Variables that every agent CLI needs to reach its service.
macro_rules! environment {
    ($($name:literal),* $(,)?) => {
        &[$($name,)* "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
          "http_proxy", "https_proxy", "all_proxy", "no_proxy"]
    };
}
pub(super) use environment;

/// The home that `variable` selects, else `default` in the user's home directory. A relative
/// path means another directory for every caller, so it selects nothing.
#[must_use]
pub fn home(env: &Environment, variable: &str, inside: &str, default: &str) -> Option<Home> {
    let chosen = env.get(variable).map(str::to_owned);
    let base = PathBuf::from(chosen.as_deref().or_else(|| env.get("HOME"))?);
    let path = base.join(if chosen.is_some() { inside } else { default });
    let path: PathBuf = path.components().collect();
    path.is_absolute().then(|| Home { path, env: [(variable.to_owned(), chosen)].into() })
}

/// One name in a directory.
pub struct Entry {
    entry: fs::DirEntry,
}

impl Entry {
    /// The name; empty if it is not UTF-8, which no provider writes.
    #[must_use]
    pub fn name(&self) -> String {
        self.entry.file_name().into_string().unwrap_or_default()
    }

    /// The whole path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// Whether it is a directory, or leads to one.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_dir(&self) -> Result<bool, Unreadable> {
        let kind = self.entry.file_type().map_err(|error| denied(&self.path(), &error))?;
        if !kind.is_symlink() {
            return Ok(kind.is_dir());
        }
        Ok(self.metadata()?.is_some_and(|metadata| metadata.is_dir()))
    }

    /// It as a transcript; `None` if it is not a regular file or vanished meanwhile.
    ///
    /// # Errors
    /// When it is there but its fingerprint cannot be read.
    pub fn listed(&self) -> Result<Option<Listed>, Unreadable> {
        let Some(metadata) = self.metadata()?.filter(fs::Metadata::is_file) else {
            return Ok(None);
        };
        let Ok(location) = self.path().into_os_string().into_string() else { return Ok(None) };
        Ok(Some(Listed { location, stamp: Stamp::of(&metadata) }))
    }

    /// `None` if it vanished. A link that leads nowhere is an error: what it leads to may be on
    /// a disk that is not mounted now.
    fn metadata(&self) -> Result<Option<fs::Metadata>, Unreadable> {
        let found = match self.entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.is_symlink() => fs::metadata(self.path()),
            found => found,
        };
        found.map(Some).map_err(|error| denied(&self.path(), &error))
    }
}

/// Everything in a store's root.
///
/// # Errors
/// [`Unreadable::Missing`] if it is not there, and when it cannot be listed.
pub fn root(path: &Path) -> Result<Vec<Entry>, Unreadable> {
    read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Unreadable::Missing,
        _ => denied(path, &error),
    })
}

/// Everything in a directory; nothing if it is not there.
///
/// # Errors
/// When it is there but cannot be listed.
pub fn entries(path: &Path) -> Result<Vec<Entry>, Unreadable> {
    match read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        read => read.map_err(|error| denied(path, &error)),
    }
}

/// Folders from which on a second thread pays.
const MANY: usize = 32;

/// Lists what `list` finds in each of these entries, half of them on a second thread if there
/// are many: a home of ten thousand transcripts is some 50 ms of asking for names and stamps.
///
/// # Errors
/// The first of `list`.
pub fn each(
    mut entries: Vec<Entry>,
    list: fn(Entry, &mut Vec<Listed>) -> Result<(), Unreadable>,
) -> Result<Vec<Listed>, Unreadable> {
    let all = move |entries: Vec<Entry>| {
        let mut found = Vec::new();
        entries.into_iter().try_for_each(|entry| list(entry, &mut found)).map(|()| found)
    };
    if entries.len() < MANY {
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

/// Adds every transcript that `wanted` names, at most `depth` directories down.
///
/// # Errors
/// When anything on the way cannot be listed.
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

/// The directories in a directory, as far as they can be seen.
#[must_use]
pub fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = entries(path).unwrap_or_default();
    entries.iter().filter(|entry| entry.is_dir() == Ok(true)).map(Entry::path).collect()
}

/// Hidden names are never transcripts, but editors leave dangling links under them.
fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(Entry { entry: entry? }));
    let is_hidden = |entry: &Entry| entry.entry.file_name().as_bytes().starts_with(b".");
    entries.filter(|entry| !entry.as_ref().is_ok_and(is_hidden)).collect()
}

fn denied(path: &Path, error: &io::Error) -> Unreadable {
    Unreadable::Denied(format!("{}: {error}", path.display()))
}

/// The text of settings that anybody may have put there: of an ordinary file that is no longer
/// than settings are.
pub fn settings(path: &Path) -> Option<String> {
    let options = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(options).open(path).ok()?;
    let mut text = String::new();
    file.metadata().is_ok_and(|it| it.is_file()).then_some(())?;
    file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_where_the_environment_says() {
        let env = |pairs: &[(&str, &str)]| {
            Environment(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let of = |env: &Environment| home(env, "X_HOME", "", ".x");
        let default = of(&env(&[("HOME", "/h"), ("X_HOME", "")])).unwrap();
        assert_eq!(default.path, Path::new("/h/.x"));
        assert_eq!(default.env, [("X_HOME".to_owned(), None)].into());
        let chosen = of(&env(&[("HOME", "/h"), ("X_HOME", "/x/")])).unwrap();
        assert_eq!((chosen.path, chosen.env["X_HOME"].as_deref()), ("/x".into(), Some("/x/")));
        assert_eq!(of(&env(&[("HOME", "/h"), ("X_HOME", "x")])), None);
    }

    #[test]
    fn what_cannot_be_listed_is_an_error_and_never_an_empty_list() {
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
