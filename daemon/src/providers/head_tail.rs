//! Reads the head and the tail of a large line-oriented file. Knows no format and no provider.
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
use std::io::{self, Read};
use std::path::Path;
use std::{iter, mem};

use memchr::{memchr, memmem, memrchr};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::scan::WHOLE_LINE_BYTES_MAX;
use super::shorten::Shortener;
use super::{Stamp, file};

/// Head and tail grow up to this size each, in bytes.
const SIDE_BYTES_MAX: usize = 8 << 20;

/// Longer lines are not read, in bytes: Node.js has no longer strings.
const LINE_BYTES_MAX: u64 = 512 << 20;

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
        let place = size.saturating_sub(side);
        let start = line_start(&file, place)?;
        let mut at = start.unwrap_or(place);
        let mut shortener = Shortener::default();
        while at < size {
            let piece = read_at(&file, at, PIECE_BYTES as usize)?;
            shortener.push(&piece, &mut read.tail);
            at += PIECE_BYTES;
        }
        if start.is_none() {
            let end = memchr(b'\n', &read.tail).map(|end| end + 1);
            read.too_long |= end.is_none_or(|end| end == read.tail.len());
            read.tail.drain(..end.unwrap_or(read.tail.len()));
        }
        read.tail_bytes = size - start.unwrap_or(size - read.tail.len() as u64);
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

    /// True if the first or the last line is too long to be read.
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
mod tests;
