//! Reads the head and the tail of a large line-oriented file, or scans its lines one by one.
//! Knows no format and no provider.
//!
//! A transcript may be 3 GB, but the metadata of a session is in few of its lines: where and when
//! it started is at the head; the last activity, the model and the title are at the tail. So a
//! first look at ten thousand transcripts reads some 32 KiB of each. Both parts are cut at line
//! ends, because a reader of records must never see half of one.
//!
//! No size is right for every file: a first record can be 22 KiB of instructions, and a pasted
//! image is one line of several MiB. So `HeadTail::grow` reads again with four times the size
//! until its caller has found enough or `SIDE_BYTES_MAX` is reached. Nothing is read in between:
//! rare questions about the whole file go through `scan`, one line in memory at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::iter;
use std::path::Path;

use memchr::{memchr, memrchr};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::{Stamp, file};

/// Head and tail grow up to this size each, in bytes. Longer lines are not parsed.
const SIDE_BYTES_MAX: usize = 32 << 20;

/// The first and the last bytes of a file, cut at line ends.
#[derive(Debug, Default)]
pub struct HeadTail {
    head: Vec<u8>,
    /// Empty if the head holds the whole file.
    tail: Vec<u8>,
    whole: bool,
    stamp: Stamp,
}

impl HeadTail {
    /// Reads at most `side` bytes from the start and as many from the end.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or read, and for anything but a regular file.
    pub fn read(path: &Path, side: usize) -> io::Result<Self> {
        let (file, metadata) = file::open(path)?;
        let size = metadata.len();
        let whole = size <= 2 * side as u64;
        let mut read = Self { whole, stamp: Stamp::of(&metadata), ..Self::default() };
        read.head = read_at(&file, 0, if whole { size as usize } else { side })?;
        if !whole {
            read.tail = read_at(&file, size - side as u64, side)?;
            read.cut();
        }
        Ok(read)
    }

    /// Reads head and tail, at first `side` bytes each, then four times as many until `enough` is
    /// true of what was parsed, the whole file was read, or the limit is reached.
    ///
    /// # Errors
    /// Fails like [`HeadTail::read`].
    pub fn grow<T>(
        path: &Path,
        side: usize,
        parse: impl Fn(&Self) -> T,
        enough: impl Fn(&T) -> bool,
    ) -> io::Result<(Self, T)> {
        let mut side = side;
        loop {
            let read = Self::read(path, side)?;
            let parsed = parse(&read);
            if read.whole || side >= SIDE_BYTES_MAX || enough(&parsed) {
                return Ok((read, parsed));
            }
            side *= 4;
        }
    }

    /// Reads head and tail of a stream; it has to be read to its end to know its tail.
    ///
    /// # Errors
    /// Fails if the stream cannot be read or has more than `limit` bytes.
    pub fn of_stream(stream: impl Read, side: usize, limit: u64) -> io::Result<Self> {
        let mut stream = stream.take(limit + 1);
        let mut read = Self { whole: true, ..Self::default() };
        stream.by_ref().take(2 * side as u64).read_to_end(&mut read.head)?;
        let mut total = read.head.len() as u64;
        let mut piece = vec![0; 1 << 16];
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                break;
            }
            total += count as u64;
            read.whole = false;
            read.tail.extend_from_slice(&piece[..count]);
            if read.tail.len() > 4 * side {
                read.keep_tail(side);
            }
        }
        read.keep_tail(side);
        if total > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !read.whole {
            read.cut();
        }
        Ok(read)
    }

    fn keep_tail(&mut self, side: usize) {
        let surplus = self.tail.len().saturating_sub(side);
        self.tail.drain(..surplus);
    }

    /// Drops incomplete lines.
    fn cut(&mut self) {
        let end = memrchr(b'\n', &self.head).map_or(0, |at| at + 1);
        self.head.truncate(end);
        let start = memchr(b'\n', &self.tail).map_or(self.tail.len(), |at| at + 1);
        self.tail.drain(..start);
    }

    /// Returns the fingerprint of the file that was read.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// True if every line of the file was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// True if the tail contains these bytes; of a small file, the whole of it.
    #[must_use]
    pub fn tail_contains(&self, bytes: &[u8]) -> bool {
        let tail = if self.whole { &self.head } else { &self.tail };
        memchr::memmem::find(tail, bytes).is_some()
    }

    /// Returns the lines from the start; of a small file, all of them.
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

    /// Returns the lines at the end, last one first; of a small file, all of them.
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

/// Passes every line to `each` until it returns false, one line in memory at a time. A longer line
/// than `SIDE_BYTES_MAX` is cut into pieces, none of which will parse.
///
/// # Errors
/// Fails if the file cannot be opened or read, and for anything but a regular file.
pub fn scan(path: &Path, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, file::open(path)?.0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(SIDE_BYTES_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !each(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(());
        }
    }
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
    fn head_and_tail_are_cut_at_line_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
        let read = HeadTail::read(&path, 6).unwrap();
        assert!(!read.is_whole());
        assert_eq!(lines(read.head()), ["one"]);
        assert_eq!(lines(read.tail_reversed()), ["four"]);
        let stream = fs::read(&path).unwrap();
        let read = HeadTail::of_stream(&*stream, 6, 100).unwrap();
        assert_eq!(lines(read.head()), ["one", "two"]);
        assert_eq!(lines(read.tail_reversed()), ["four"]);
        assert!(HeadTail::of_stream(&*stream, 5, 17).is_err());
    }

    #[test]
    fn record_larger_than_the_first_read_is_found_by_growing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, format!("{}\n{}\n", "a".repeat(50), "b".repeat(50))).unwrap();
        let read = HeadTail::read(&path, 8).unwrap();
        assert!(!read.is_whole() && read.head().next().is_none());
        let read =
            HeadTail::grow(&path, 8, |read| read.head().count(), |lines| *lines > 0).unwrap().0;
        assert_eq!(lines(read.tail_reversed()), ["b".repeat(50), "a".repeat(50)]);
    }
}
