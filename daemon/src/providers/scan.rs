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

/// Bytes that are read at once in search of what is not text.
const PIECE_BYTES: u64 = 1 << 16;

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
}
