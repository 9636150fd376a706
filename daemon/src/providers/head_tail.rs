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
//! until its caller has found enough or `SIDE_BYTES_MAX` is reached. A line that is longer still is
//! read once, with its long strings cut (`shorten`). Nothing is read in between: rare questions
//! about the whole file go through `scan`, one line in memory at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::{iter, mem};

use memchr::{memchr, memmem, memrchr};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::shorten::Shortener;
use super::{Stamp, file};

/// Head and tail grow up to this size each, in bytes.
const SIDE_BYTES_MAX: usize = 8 << 20;

/// Longer lines are shortened while they are read, in bytes.
const WHOLE_LINE_BYTES_MAX: usize = 1 << 20;

/// Longer lines are not read, in bytes: Node.js has no longer strings.
const LINE_BYTES_MAX: u64 = 512 << 20;

/// Most bytes that [`scan`] reads: a second or two.
pub const SCAN_BYTES_MAX: u64 = 1 << 30;

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
    /// True if the first or the last line is too long to be read.
    too_long: bool,
    /// Length of the incomplete line that was cut off, the longer one of both.
    cut_bytes: usize,
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
    /// true of what was parsed, the whole file was read, or the limit is reached. At the limit, a
    /// long line at either end is shortened.
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
            let mut read = Self::read(path, side)?;
            let mut parsed = parse(&read);
            if read.whole || enough(&read, &parsed) {
                return Ok((read, parsed));
            }
            if side == SIDE_BYTES_MAX {
                if read.cut_bytes > WHOLE_LINE_BYTES_MAX {
                    drop((read, parsed));
                    read = Self::read_shortened(path)?;
                    parsed = parse(&read);
                }
                return Ok((read, parsed));
            }
            side = (4 * side).min(SIDE_BYTES_MAX);
        }
    }

    /// Reads the lines at both ends with their long strings cut.
    fn read_shortened(path: &Path) -> io::Result<Self> {
        let (file, metadata) = file::open(path)?;
        let size = metadata.len();
        let mut read = Self { stamp: Stamp::of(&metadata), ..Self::default() };
        let side = WHOLE_LINE_BYTES_MAX as u64;
        let (mut shortener, mut at) = (Shortener::default(), 0);
        while at < size.min(LINE_BYTES_MAX) && read.head.len() < WHOLE_LINE_BYTES_MAX {
            let piece = read_at(&file, at, PIECE_BYTES as usize)?;
            shortener.push(&piece, &mut read.head);
            at += PIECE_BYTES;
        }
        if at < size {
            let end = memrchr(b'\n', &read.head);
            read.too_long |= end.is_none();
            read.head.truncate(end.map_or(0, |end| end + 1));
        }
        let start = line_start(&file, size.saturating_sub(side))?;
        read.too_long |= start.is_none();
        let mut at = start.unwrap_or(size);
        read.tail_bytes = size - at;
        let mut shortener = Shortener::default();
        while at < size {
            let piece = read_at(&file, at, PIECE_BYTES as usize)?;
            shortener.push(&piece, &mut read.tail);
            at += PIECE_BYTES;
        }
        read.replace_garbage();
        Ok(read)
    }

    /// Reads head and tail of a stream, with long strings cut; it has to be read to its end to know
    /// its tail.
    ///
    /// # Errors
    /// Fails if the stream cannot be read or has more than `limit` bytes.
    pub fn of_stream(stream: impl Read, side: usize, limit: u64) -> io::Result<Self> {
        let mut stream = stream.take(limit + 1);
        let mut read = Self { whole: true, ..Self::default() };
        let (mut shortener, mut total) = (Shortener::default(), 0);
        let mut piece = vec![0; PIECE_BYTES as usize];
        loop {
            let room = (2 * side).saturating_sub(read.head.len());
            let is_head = room > 0;
            let room = if is_head { room.min(piece.len()) } else { piece.len() };
            let count = stream.read(&mut piece[..room])?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if is_head {
                shortener.push(&piece[..count], &mut read.head);
                continue;
            }
            read.whole = false;
            shortener.push(&piece[..count], &mut read.tail);
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
        let start = memchr(b'\n', &self.tail).map_or(self.tail.len(), |at| at + 1);
        self.cut_bytes = start.max(self.head.len() - end);
        self.head.truncate(end);
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

    /// True if the first or the last line is too long to be read, whoever wrote it.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.too_long
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

/// Passes every line to `each` until it returns false, one line in memory at a time. Long lines
/// are shortened.
///
/// # Errors
/// Fails if the file cannot be opened or read, for anything but a regular file, and after
/// [`SCAN_BYTES_MAX`].
pub fn scan(path: &Path, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, file::open(path)?.0).take(SCAN_BYTES_MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count =
            reader.by_ref().take(WHOLE_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if count == WHOLE_LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            shorten_line(&mut reader, &mut line)?;
        }
        if reader.limit() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if count == 0 {
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

/// Shortens a line of which only the beginning was read, and reads its rest.
fn shorten_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    let mut shortener = Shortener::default();
    let beginning = mem::take(line);
    shortener.push(&beginning, line);
    drop(beginning);
    loop {
        let buffer = reader.fill_buf()?;
        let end = memchr(b'\n', buffer).map(|end| end + 1);
        let used = end.unwrap_or(buffer.len());
        shortener.push(&buffer[..used], line);
        reader.consume(used);
        if end.is_some() || used == 0 {
            return Ok(());
        }
    }
}

/// Returns where the line starts that has a place in a file; `None` if that is too far away.
fn line_start(file: &File, place: u64) -> io::Result<Option<u64>> {
    let limit = place.saturating_sub(LINE_BYTES_MAX);
    let mut end = place;
    while end > limit {
        let start = end.saturating_sub(PIECE_BYTES).max(limit);
        let piece = read_at(file, start, (end - start) as usize)?;
        if let Some(at) = memrchr(b'\n', &piece) {
            return Ok(Some(start + at as u64 + 1));
        }
        end = start;
    }
    Ok((end == 0).then_some(0))
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

    #[test]
    fn line_of_any_size_is_read_with_its_strings_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let long = |name: &str| format!("{{\"{name}\":\"{}\"}}", "x".repeat(9 << 20));
        let small = "{}\n".repeat(9 << 19);
        let names = |lines: &mut dyn Iterator<Item = &[u8]>| {
            let name = |line: &[u8]| line.get(2..3).map(|it| String::from_utf8_lossy(it).into());
            lines.filter_map(name).collect::<Vec<String>>()
        };
        let ends = |text: &str| {
            fs::write(&path, text).unwrap();
            let (ends, ()) = HeadTail::grow(&path, 8, |_| (), |_, ()| false).unwrap();
            assert!(ends.head.len() + ends.tail.len() < 17 << 20 && !ends.is_too_long());
            (names(&mut ends.head()), names(&mut ends.tail_reversed()))
        };
        for end in ["", "\n"] {
            let (head, tail) = ends(&format!("{}\n{small}{}{end}", long("a"), long("b")));
            assert_eq!((head, tail), (vec!["a".to_owned()], vec!["b".to_owned()]));
        }
        let (head, tail) = ends(&format!("{small}{}\n{small}", long("a")));
        assert_eq!((head.len(), tail.len()), (0, 0), "nothing is read in between");
        let mut scanned = Vec::new();
        let scan_line = |line: &[u8]| {
            scanned.push(line.len());
            true
        };
        fs::write(&path, format!("{}\n{{}}\n{}", long("a"), long("b"))).unwrap();
        scan(&path, scan_line).unwrap();
        assert!(scanned.len() == 3 && scanned[1] == 2 && scanned[0].max(scanned[2]) < 1 << 20);
        let stream = format!("{}\n{small}{}\n", long("a"), long("b"));
        let read = HeadTail::of_stream(stream.as_bytes(), 100_000, u64::MAX - 1).unwrap();
        assert_eq!(names(&mut read.head()), ["a"]);
        assert_eq!(names(&mut read.tail_reversed()), ["b"]);
    }

    #[test]
    fn line_that_is_too_long_to_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // A hole takes no room on the disk.
        File::create(&path).unwrap().set_len(3 << 30).unwrap();
        let (ends, ()) = HeadTail::grow(&path, 8, |_| (), |_, ()| false).unwrap();
        assert!(ends.is_too_long());
        let scanned = scan(&path, |_| true).unwrap_err();
        assert_eq!(scanned.kind(), io::ErrorKind::FileTooLarge);
    }
}
