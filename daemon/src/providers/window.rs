//! The head and the tail of a large line-oriented file. Knows no format.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::Stamp;

/// The first and the last bytes of a file, cut at line ends.
#[derive(Debug, Default)]
pub struct Window {
    head: Vec<u8>,
    /// Empty when the head holds the whole file.
    tail: Vec<u8>,
    stamp: Stamp,
}

impl Window {
    /// Reads at most `head` bytes from the start and `tail` bytes from the end.
    ///
    /// # Errors
    /// Those of opening and reading.
    pub fn read(path: &Path, head: usize, tail: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let whole = size <= (head + tail) as u64;
        let mut window = Self { stamp: Stamp::of(&metadata), ..Self::default() };
        window.head = read_at(&file, 0, if whole { head + tail } else { head })?;
        if !whole {
            window.tail = read_at(&file, size - tail as u64, tail)?;
            window.head.truncate(line_end(&window.head, false));
            let start = line_end(&window.tail, true);
            window.tail.drain(..start);
        }
        Ok(window)
    }

    /// The fingerprint of the file that was read.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// True if every line of the file is in the window.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tail.is_empty()
    }

    /// The lines from the start; the whole file if it is small.
    pub fn head(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.head)
    }

    /// The lines at the end, last one first; the whole file if it is small.
    pub fn tail_reversed(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = if self.is_whole() { &self.head } else { &self.tail };
        bytes.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}

impl Stamp {
    /// The fingerprint in a file's metadata.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Where the last complete line ends, or where the first one does.
fn line_end(bytes: &[u8], first: bool) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let found = if first { bytes.iter().position(is_end) } else { bytes.iter().rposition(is_end) };
    found.map_or(if first { bytes.len() } else { 0 }, |at| at + 1)
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
