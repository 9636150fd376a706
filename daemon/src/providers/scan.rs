//! Reads all lines of a file, one in memory at a time: for rare questions that its head and tail
//! cannot answer. Knows no format and no provider.

use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::path::Path;

use memchr::memchr;

use super::file;
use super::shorten::Shortener;

/// Longer lines are shortened while they are read, in bytes.
pub(super) const WHOLE_LINE_BYTES_MAX: usize = 1 << 20;

/// Most bytes that [`scan`] reads: a second or two.
pub const SCAN_BYTES_MAX: u64 = 1 << 30;

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
