//! Byte-exact copies of provider files, taken before sessd writes to them or removes them.
//!
//! Each copy is a folder of its own below `copies/` in the state folder, named by time, with the
//! file under its own name and, in `original`, the path that it was copied from. An edit is done
//! only if the file is still as it was copied, so that the copy always brings back what was there.
//! Knows no provider and no registry.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use uuid::Uuid;

use crate::clock::now;
use crate::providers::Stamp;

/// The folder of all copies, below our own state.
const FOLDER: &str = "copies";

/// The longest time that a copy may take for the edit to follow: a transcript may have gigabytes.
pub(crate) const COPY_TIMEOUT: Duration = Duration::from_secs(110);

/// The file beside a copy with the path of its original.
const ORIGINAL: &str = "original";

/// The folder of all copies.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    folder: PathBuf,
}

/// A copy that was taken before an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The path of the copy.
    pub(crate) path: PathBuf,
    /// The path of the file that was copied.
    pub(crate) original: PathBuf,
}

impl Copy {
    /// True if putting the copy back loses nothing: the file is gone, or has got a line feed since
    /// and nothing else.
    pub(crate) fn is_newest(&self) -> bool {
        match (fs::metadata(&self.path), fs::symlink_metadata(&self.original)) {
            (Ok(copy), Ok(original)) => original.len() == copy.len() + 1,
            (Ok(_), Err(error)) => error.kind() == ErrorKind::NotFound,
            (Err(_), _) => false,
        }
    }
}

impl Copies {
    /// Names the place of copies in a state folder; it is made with the first copy.
    pub(crate) fn of(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Returns all copies, newest first.
    pub(crate) fn all(&self) -> Vec<Copy> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut folders: Vec<_> = folders.map(|entry| entry.path()).collect();
        folders.sort_unstable_by(|a, b| b.cmp(a));
        let copy = |folder: PathBuf| {
            let original = fs::read(folder.join(ORIGINAL)).ok()?;
            let original = PathBuf::from(OsStr::from_bytes(&original));
            let path = folder.join("file").join(original.file_name()?);
            path.is_file().then_some(Copy { path, original })
        };
        folders.into_iter().filter_map(copy).collect()
    }

    /// Ends the last line of a file with a line feed, after a copy of the file. Does nothing and
    /// returns `None` if the file is no longer as `seen`.
    ///
    /// # Errors
    /// Fails if the file or the copy cannot be read or written; the file is then unchanged.
    pub(crate) fn end_line(&self, original: &Path, seen: Stamp) -> io::Result<Option<Copy>> {
        self.edit(original, seen, || {
            let mut file = open(OpenOptions::new().append(true), original)?;
            if Stamp::of(&file.metadata()?) != seen {
                return Ok(false);
            }
            file.write_all(b"\n")?;
            file.sync_all()?;
            Ok(true)
        })
    }

    /// Removes a file after a copy of it. Does nothing and returns `None` if the file is no longer
    /// as `seen`.
    ///
    /// # Errors
    /// Fails if the file cannot be copied or removed; it is then still there.
    pub(crate) fn remove(&self, original: &Path, seen: Stamp) -> io::Result<Option<Copy>> {
        self.edit(original, seen, || {
            if stamp(original)? != seen {
                return Ok(false);
            }
            fs::remove_file(original)?;
            Ok(true)
        })
    }

    /// Copies a file, then makes an edit, which returns false if the file has changed meanwhile.
    /// Without an edit no copy is kept. A copy that takes too long is not followed by the edit:
    /// who asked for it is gone by then.
    fn edit(
        &self,
        original: &Path,
        seen: Stamp,
        edit: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<Option<Copy>> {
        let started = Instant::now();
        let Some(copy) = self.take(original, seen)? else { return Ok(None) };
        let is_late = started.elapsed() > COPY_TIMEOUT;
        let edited = if is_late { Err(ErrorKind::TimedOut.into()) } else { edit() };
        if !matches!(edited, Ok(true)) {
            self.drop(&copy);
        }
        Ok(edited?.then_some(copy))
    }

    /// Copies a file; `None` if it is not as `seen`.
    fn take(&self, original: &Path, seen: Stamp) -> io::Result<Option<Copy>> {
        let name = original.file_name().ok_or(ErrorKind::InvalidInput)?;
        let mut from = open(OpenOptions::new().read(true), original)?;
        if Stamp::of(&from.metadata()?) != seen {
            return Ok(None);
        }
        let folder = self.folder.join(format!("{:013}-{}", now().0, Uuid::new_v4()));
        let path = folder.join("file").join(name);
        let copy = Copy { path, original: original.to_owned() };
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&folder.join("file"))?;
        let written = write(&copy.path, &mut from).and_then(|()| {
            write(&folder.join(ORIGINAL), &mut original.as_os_str().as_bytes())?;
            File::open(&folder)?.sync_all()
        });
        let is_same = Stamp::of(&from.metadata()?) == seen;
        if written.is_err() || !is_same {
            self.drop(&copy);
        }
        written.map(|()| is_same.then_some(copy))
    }

    /// Removes a copy of a file that was then not changed.
    fn drop(&self, copy: &Copy) {
        if let Some(folder) = copy.path.parent().and_then(Path::parent)
            && let Err(error) = fs::remove_dir_all(folder)
        {
            tracing::warn!("cannot remove a copy: {error}");
        }
    }
}

/// Returns the stamp of a file whose last line is not ended; `None` if it is, or the file is empty.
///
/// # Errors
/// Fails if it cannot be read.
pub(crate) fn torn(path: &Path) -> io::Result<Option<Stamp>> {
    let mut file = open(OpenOptions::new().read(true), path)?;
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        return Ok(None);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(metadata.len() - 1))?;
    file.read_exact(&mut last)?;
    Ok((last != *b"\n").then(|| Stamp::of(&metadata)))
}

/// Returns the stamp of a file.
///
/// # Errors
/// Fails if it is not there or not a regular file.
pub(crate) fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    Ok(Stamp::of(&metadata))
}

/// Opens a regular file; a pipe in its place does not block.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

fn write(path: &Path, from: &mut impl Read) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    io::copy(from, &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scene(text: &[u8]) -> (tempfile::TempDir, Copies, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a chat.jsonl");
        fs::write(&path, text).unwrap();
        let copies = Copies::of(&folder.path().join("state"));
        (folder, copies, path)
    }

    #[test]
    fn line_is_ended_and_the_copy_has_the_bytes_as_they_were() {
        let (folder, copies, path) = scene(b"{}\n{\"x\": \xff");
        let seen = torn(&path).unwrap().unwrap();
        let copy = copies.end_line(&path, seen).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}\n{\"x\": \xff\n");
        assert_eq!(fs::read(&copy.path).unwrap(), b"{}\n{\"x\": \xff");
        assert_eq!(torn(&path).unwrap(), None);
        assert_eq!(copies.all(), std::slice::from_ref(&copy));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&copy.path), 0o600);
        assert_eq!(mode(&folder.path().join("state/copies")), 0o700);
    }

    #[test]
    fn file_that_has_changed_is_left_alone() {
        let (_folder, copies, path) = scene(b"{}");
        let seen = torn(&path).unwrap().unwrap();
        fs::write(&path, "{} and more").unwrap();
        assert_eq!(copies.end_line(&path, seen).unwrap(), None);
        assert_eq!(copies.remove(&path, seen).unwrap(), None);
        assert_eq!(fs::read(&path).unwrap(), b"{} and more");
        assert_eq!(copies.all(), []);
    }

    #[test]
    fn removed_file_can_be_put_back() {
        let (_folder, copies, path) = scene(b"x");
        let copy = copies.remove(&path, stamp(&path).unwrap()).unwrap().unwrap();
        assert!(!path.exists());
        fs::copy(&copies.all()[0].path, &copy.original).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn empty_and_ended_files_are_not_torn() {
        for (text, is_torn) in [(&b""[..], false), (b"x\n", false), (b"x", true), (b"\n\0", true)] {
            let (_folder, _, path) = scene(text);
            assert_eq!(torn(&path).unwrap().is_some(), is_torn, "{text:?}");
        }
    }
}
