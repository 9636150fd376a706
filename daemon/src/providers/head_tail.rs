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

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::{iter, mem};

use memchr::{memchr, memmem, memrchr};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::{Stamp, file};

/// Head and tail grow up to this size each, in bytes. Longer lines are not parsed.
const SIDE_BYTES_MAX: usize = 32 << 20;

/// Most bytes before the tail in which [`HeadTail::search_back`] should look.
pub const SEARCH_BYTES_MAX: u64 = 256 << 10;

/// Bytes that are searched at a time.
const PIECE_BYTES: u64 = 64 << 10;

/// Longest key that is found across the border of two pieces.
const KEY_BYTES_MAX: usize = 64;

/// Longest line that is found, in bytes before and after the key.
const FOUND_BYTES_MAX: u64 = 8 << 10;

/// The first and the last bytes of a file, cut at line ends.
#[derive(Debug, Default)]
pub struct HeadTail {
    head: Vec<u8>,
    /// Empty if the head holds the whole file.
    tail: Vec<u8>,
    /// Length of the complete lines at the end of the file.
    tail_bytes: u64,
    whole: bool,
    /// True if bytes had to be replaced because they were not UTF-8.
    replaced: bool,
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
        read.replace_garbage();
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
        enough: impl Fn(&Self, &T) -> bool,
    ) -> io::Result<(Self, T)> {
        let mut side = side;
        loop {
            let read = Self::read(path, side)?;
            let parsed = parse(&read);
            if read.whole || side >= SIDE_BYTES_MAX || enough(&read, &parsed) {
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
        read.replace_garbage();
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
        self.tail_bytes = self.tail.len() as u64;
    }

    /// Replaces bytes that are not UTF-8, as the CLIs do when they read text.
    fn replace_garbage(&mut self) {
        for side in [&mut self.head, &mut self.tail] {
            if let Cow::Owned(replaced) = String::from_utf8_lossy(side) {
                *side = replaced.into_bytes();
                self.replaced = true;
            }
        }
    }

    /// True if all bytes that were read are UTF-8.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        !self.replaced
    }

    /// Passes to `add` the last line that contains a key, for each of `keys`, from so many bytes
    /// before the tail. Ends at the line of the first key.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or read.
    pub fn search_back(
        &self,
        path: &Path,
        bytes: u64,
        keys: &[&[u8]],
        mut add: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if self.whole || keys.is_empty() {
            return Ok(());
        }
        let (file, _) = file::open(path)?;
        let mut end = self.stamp.size.saturating_sub(self.tail_bytes);
        let limit = end.saturating_sub(bytes);
        let mut wanted = keys.to_vec();
        while end > limit {
            let start = end.saturating_sub(PIECE_BYTES).max(limit);
            // A key may lie across the border of two pieces.
            let piece = read_at(&file, start, (end - start) as usize + KEY_BYTES_MAX)?;
            for key in mem::take(&mut wanted) {
                match memmem::rfind(&piece, key) {
                    Some(at) => add(&line_at(&file, start + at as u64)?),
                    None => wanted.push(key),
                }
            }
            if wanted.first() != keys.first() {
                break;
            }
            end = start;
        }
        Ok(())
    }

    /// Returns the fingerprint of the file that was read.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the length of the head, in bytes.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.head.len()
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
        memmem::find(tail, bytes).is_some()
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
        // Bytes that are not UTF-8 are replaced, as the CLIs do.
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        if !each(text.as_bytes()) {
            return Ok(());
        }
    }
}

/// True if the first bytes of a file, up to a limit, are UTF-8. Reads one piece at a time.
///
/// # Errors
/// Fails if the file cannot be opened or read, and for anything but a regular file.
pub fn is_text(path: &Path, limit: u64) -> io::Result<bool> {
    let mut file = file::open(path)?.0.take(limit);
    let mut piece = Vec::new();
    loop {
        let rest = piece.len();
        if file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece)? == 0 {
            // A character that the limit cuts is not judged.
            return Ok(rest == 0 || file.limit() == 0);
        }
        match std::str::from_utf8(&piece) {
            Ok(_) => piece.clear(),
            Err(error) if error.error_len().is_none() => drop(piece.drain(..error.valid_up_to())),
            Err(_) => return Ok(false),
        }
    }
}

/// Returns the line around a place in a file, without what is too far from it.
fn line_at(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let start = at.saturating_sub(FOUND_BYTES_MAX);
    let mut bytes = read_at(file, start, 2 * FOUND_BYTES_MAX as usize)?;
    let middle = ((at - start) as usize).min(bytes.len());
    bytes.truncate(memchr(b'\n', &bytes[middle..]).map_or(bytes.len(), |end| middle + end));
    bytes.drain(..memrchr(b'\n', &bytes[..middle]).map_or(0, |start| start + 1));
    Ok(bytes)
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
    fn line_far_before_the_tail_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let find = |before: usize, after: usize| {
            let [before, after] = [before, after].map(|length| "x".repeat(length));
            fs::write(&path, format!("a KEY 1\n{before}\na KEY 2\n{after}\nend\n")).unwrap();
            let read = HeadTail::read(&path, 16).unwrap();
            let mut found = Vec::new();
            let mut add = |line: &[u8]| found.push(String::from_utf8_lossy(line).into_owned());
            read.search_back(&path, SEARCH_BYTES_MAX, &[b"KEY", b"MORE"], &mut add).unwrap();
            found
        };
        for after in [0, 100, 60_000, (64 << 10) - 20, (64 << 10) - 10, 64 << 10, 250_000] {
            assert_eq!(find(100, after), ["a KEY 2"], "{after}");
        }
        assert!(find(100, 300_000).is_empty());
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"a\xff\xfeb\nc\n").unwrap();
        let read = HeadTail::read(&path, 100).unwrap();
        assert_eq!(lines(read.head()), ["a\u{fffd}\u{fffd}b", "c"]);
        assert!(!read.is_utf8());
        let mut scanned = Vec::new();
        scan(&path, |line| {
            scanned.push(String::from_utf8(line.to_vec()).unwrap());
            true
        })
        .unwrap();
        assert_eq!(scanned, lines(read.head()).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn bytes_that_are_not_text_are_found_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut bytes = "é".repeat(70_000).into_bytes();
        bytes.insert(0, b'a');
        fs::write(&path, &bytes).unwrap();
        assert!(is_text(&path, u64::MAX).unwrap() && is_text(&path, 2).unwrap());
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(!is_text(&path, u64::MAX).unwrap());
        bytes[100_000] = 0xff;
        fs::write(&path, &bytes).unwrap();
        assert!(!is_text(&path, u64::MAX).unwrap() && is_text(&path, 99_999).unwrap());
    }

    #[test]
    fn record_larger_than_the_first_read_is_found_by_growing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, format!("{}\n{}\n", "a".repeat(50), "b".repeat(50))).unwrap();
        let read = HeadTail::read(&path, 8).unwrap();
        assert!(!read.is_whole() && read.head().next().is_none());
        let read =
            HeadTail::grow(&path, 8, |read| read.head().count(), |_, lines| *lines > 0).unwrap().0;
        assert_eq!(lines(read.tail_reversed()), ["b".repeat(50), "a".repeat(50)]);
    }
}
