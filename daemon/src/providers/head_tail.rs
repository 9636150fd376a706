//! The head and the tail of a large line-oriented file, and its lines one by one.
//! Knows no format.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::iter;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use memchr::{memchr, memrchr};
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::{Errno, pread};

use super::Stamp;

/// Windows grow until this; a file that needs more is read as far as this.
const LARGEST: usize = 32 << 20;

/// The first and the last bytes of a file, cut at line ends.
#[derive(Debug, Default)]
pub struct HeadTail {
    head: Vec<u8>,
    /// Empty when the head holds the whole file.
    tail: Vec<u8>,
    whole: bool,
    stamp: Stamp,
}

impl HeadTail {
    /// Reads at most `side` bytes from the start and as many from the end.
    ///
    /// # Errors
    /// Those of opening and reading; anything but a regular file is refused.
    pub fn read(path: &Path, side: usize) -> io::Result<Self> {
        let (file, metadata) = open(path)?;
        let size = metadata.len();
        let whole = size <= 2 * side as u64;
        let mut window = Self { whole, stamp: Stamp::of(&metadata), ..Self::default() };
        window.head = read_at(&file, 0, if whole { size as usize } else { side })?;
        if !whole {
            window.tail = read_at(&file, size - side as u64, side)?;
            window.cut();
        }
        Ok(window)
    }

    /// Reads windows that grow until what is parsed from one is enough, the file is whole, or it
    /// gets too much: a single record may be larger than any window chosen in advance.
    ///
    /// # Errors
    /// Those of [`HeadTail::read`].
    pub fn grow<T>(
        path: &Path,
        side: usize,
        parse: impl Fn(&Self) -> T,
        enough: impl Fn(&T) -> bool,
    ) -> io::Result<(Self, T)> {
        let mut side = side;
        loop {
            let window = Self::read(path, side)?;
            let parsed = parse(&window);
            if window.whole || side >= LARGEST || enough(&parsed) {
                return Ok((window, parsed));
            }
            side *= 4;
        }
    }

    /// The window of a stream, which must be read to its end to know its tail.
    ///
    /// # Errors
    /// Those of reading, and a stream of more than `limit` bytes.
    pub fn of_stream(stream: impl Read, side: usize, limit: u64) -> io::Result<Self> {
        let mut stream = stream.take(limit + 1);
        let mut window = Self { whole: true, ..Self::default() };
        stream.by_ref().take(2 * side as u64).read_to_end(&mut window.head)?;
        let mut total = window.head.len() as u64;
        let mut piece = vec![0; 1 << 16];
        loop {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            window.whole = false;
            window.tail.extend_from_slice(&piece[..read]);
            if window.tail.len() > 4 * side {
                window.keep_tail(side);
            }
        }
        window.keep_tail(side);
        if total > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !window.whole {
            window.cut();
        }
        Ok(window)
    }

    fn keep_tail(&mut self, side: usize) {
        let surplus = self.tail.len().saturating_sub(side);
        self.tail.drain(..surplus);
    }

    /// Drops what is only a part of a line.
    fn cut(&mut self) {
        let end = memrchr(b'\n', &self.head).map_or(0, |at| at + 1);
        self.head.truncate(end);
        let start = memchr(b'\n', &self.tail).map_or(self.tail.len(), |at| at + 1);
        self.tail.drain(..start);
    }

    /// The fingerprint of the file that was read.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// True if every line of the file is in the window.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the bytes are in the tail; in the whole file if it is small.
    #[must_use]
    pub fn tail_contains(&self, bytes: &[u8]) -> bool {
        let tail = if self.whole { &self.head } else { &self.tail };
        memchr::memmem::find(tail, bytes).is_some()
    }

    /// The lines from the start; the whole file if it is small.
    pub fn head(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(&*self.head);
        let lines = iter::from_fn(move || {
            let bytes = rest?;
            let end = memchr(b'\n', bytes);
            rest = end.map(|end| &bytes[end + 1..]);
            Some(&bytes[..end.unwrap_or(bytes.len())])
        });
        lines.filter(|line| !line.is_empty())
    }

    /// The lines at the end, last one first; the whole file if it is small.
    pub fn tail_reversed(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(if self.whole { &*self.head } else { &*self.tail });
        let lines = iter::from_fn(move || {
            let bytes = rest?;
            let start = memrchr(b'\n', bytes);
            rest = start.map(|start| &bytes[..start]);
            Some(&bytes[start.map_or(0, |start| start + 1)..])
        });
        lines.filter(|line| !line.is_empty())
    }
}

impl Stamp {
    /// The fingerprint in a file's metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// Shows every line to `each` until it answers false, one in memory at a time. A line larger
/// than any window is cut into pieces, none of which will parse.
///
/// # Errors
/// Those of opening and reading; anything but a regular file is refused.
pub fn scan(path: &Path, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, open(path)?.0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LARGEST as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !each(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(());
        }
    }
}

/// Opens a regular file, with what is known of it; a pipe is refused without a wait for its
/// writer.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let no_wait = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(no_wait).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file, metadata))
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    #[test]
    fn windows_are_cut_at_line_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
        let window = HeadTail::read(&path, 6).unwrap();
        assert!(!window.is_whole());
        assert_eq!(lines(window.head()), ["one"]);
        assert_eq!(lines(window.tail_reversed()), ["four"]);
        let stream = fs::read(&path).unwrap();
        let window = HeadTail::of_stream(&*stream, 6, 100).unwrap();
        assert_eq!(lines(window.head()), ["one", "two"]);
        assert_eq!(lines(window.tail_reversed()), ["four"]);
        assert!(HeadTail::of_stream(&*stream, 5, 17).is_err());
    }

    #[test]
    fn a_record_larger_than_the_window_is_not_taken_for_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, format!("{}\n{}\n", "a".repeat(50), "b".repeat(50))).unwrap();
        let window = HeadTail::read(&path, 8).unwrap();
        assert!(!window.is_whole() && window.head().next().is_none());
        let window =
            HeadTail::grow(&path, 8, |window| window.head().count(), |lines| *lines > 0).unwrap().0;
        assert_eq!(lines(window.tail_reversed()), ["b".repeat(50), "a".repeat(50)]);
    }
}
