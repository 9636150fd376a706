//! Shortens lines of JSON while they are read, so that a message of any size takes little memory:
//! long strings are cut, everything else is kept, and the line can still be parsed. Knows no
//! record and no file.

use std::io::{self, Read};

use memchr::{memchr, memchr2, memchr3};

/// Longest string that is kept whole, in bytes: titles and paths are far shorter.
const STRING_BYTES_MAX: usize = 16 << 10;

/// Longest line that is made, in bytes. The rest of a longer one is dropped, so that it does not
/// parse.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The place in a line at which the next byte is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    InString,
    /// After a backslash.
    InEscape,
    /// In the digits of `\u`, so many of which follow.
    InDigits(u8),
    /// In a line that is long enough already.
    Beyond,
}

/// Shortens a stream of lines, which is passed in pieces.
#[derive(Default)]
pub(super) struct Shortener {
    place: Place,
    /// Bytes of the present string that were kept, and true once some were not.
    kept: usize,
    is_cut: bool,
    /// True if the escape that is being read is kept.
    keeps_escape: bool,
    /// The digits of the last `\u` that was kept, if nothing followed it yet.
    digits: u32,
    /// Bytes of the present line that were kept.
    line: usize,
}

impl Shortener {
    /// Appends what is kept of the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = piece.first() {
            let used = match self.place {
                Place::Outside => self.outside(piece, out),
                Place::InString => self.in_string(piece, out),
                Place::InEscape => self.in_escape(first, out),
                Place::InDigits(left) => self.in_digits(first, left, out),
                Place::Beyond => {
                    let end = memchr(b'\n', piece);
                    if end.is_some() {
                        self.end_line(out);
                    }
                    end.map_or(piece.len(), |end| end + 1)
                }
            };
            piece = &piece[used..];
        }
    }

    fn outside(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        let end = memchr2(b'"', b'\n', piece);
        self.keep(&piece[..end.unwrap_or(piece.len())], out);
        let Some(end) = end else { return piece.len() };
        match piece[end] {
            _ if self.place == Place::Beyond => return end,
            b'\n' => self.end_line(out),
            quote => {
                self.keep(&[quote], out);
                self.start_string();
            }
        }
        end + 1
    }

    fn in_string(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        let end = memchr3(b'"', b'\\', b'\n', piece);
        let text = &piece[..end.unwrap_or(piece.len())];
        let text = &text[..self.room(text)];
        self.is_cut |= text.len() < end.unwrap_or(piece.len());
        self.kept += text.len();
        self.digits = if text.is_empty() { self.digits } else { 0 };
        self.keep(text, out);
        let Some(end) = end else { return piece.len() };
        match piece[end] {
            _ if self.place == Place::Beyond => return end,
            b'\n' => self.end_line(out),
            b'\\' => {
                // The second half of a pair has to follow the first.
                let is_second = (0xd800..0xdc00).contains(&self.digits);
                self.keeps_escape = is_second || (!self.is_cut && self.kept < STRING_BYTES_MAX);
                self.is_cut |= !self.keeps_escape;
                self.digits = 0;
                self.place = Place::InEscape;
                self.keep_of_escape(b'\\', out);
            }
            quote => {
                self.place = Place::Outside;
                self.keep(&[quote], out);
            }
        }
        end + 1
    }

    /// Returns how many bytes of a text still fit into the present string. A character is not cut,
    /// even if the pieces cut it.
    fn room(&self, text: &[u8]) -> usize {
        if self.is_cut {
            return 0;
        }
        let room = text.len().min(STRING_BYTES_MAX.saturating_sub(self.kept));
        let is_inside = |byte: &&u8| (0x80..0xc0).contains(*byte);
        room + text[room..].iter().take(3).take_while(is_inside).count()
    }

    fn in_escape(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        if byte == b'\n' {
            self.end_line(out);
            return 1;
        }
        self.place = if byte == b'u' { Place::InDigits(4) } else { Place::InString };
        self.keep_of_escape(byte, out);
        1
    }

    fn in_digits(&mut self, byte: u8, left: u8, out: &mut Vec<u8>) -> usize {
        let Some(digit) = char::from(byte).to_digit(16) else {
            // No digit: the string goes on with it.
            self.place = Place::InString;
            return 0;
        };
        self.digits = if self.keeps_escape { self.digits << 4 | digit } else { 0 };
        self.place = if left == 1 { Place::InString } else { Place::InDigits(left - 1) };
        self.keep_of_escape(byte, out);
        1
    }

    fn keep_of_escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.keeps_escape {
            self.kept += 1;
            self.keep(&[byte], out);
        }
    }

    fn keep(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let room = LINE_BYTES_MAX - self.line;
        if bytes.len() > room {
            self.place = Place::Beyond;
        }
        let bytes = &bytes[..bytes.len().min(room)];
        self.line += bytes.len();
        out.extend_from_slice(bytes);
    }

    fn start_string(&mut self) {
        if self.place != Place::Beyond {
            self.place = Place::InString;
        }
        (self.kept, self.is_cut, self.digits) = (0, false, 0);
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
        *self = Self::default();
    }
}

/// Reads all of a stream with its long strings cut.
///
/// # Errors
/// Fails if the stream cannot be read, or has more than so many bytes after that.
pub(super) fn read(mut from: impl Read, into: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let (mut shortener, mut piece) = (Shortener::default(), vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        shortener.push(&piece[..count], into);
        if into.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Shortens a text that is passed in pieces of a size.
    fn shortened(text: &str, size: usize) -> String {
        let (mut shortener, mut out) = (Shortener::default(), Vec::new());
        text.as_bytes().chunks(size).for_each(|piece| shortener.push(piece, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_strings_are_cut_and_nothing_else() {
        for unit in ["a", "é", "€", "😀", "\n", "\"", "\\", "\u{1}"] {
            for offset in 0..7 {
                let long = "b".repeat(offset) + &unit.repeat(STRING_BYTES_MAX);
                let line = json!({ "long": long, "list": [1, { "end": "x\"y" }] }).to_string();
                for size in [1, 3, 7, 1 << 20] {
                    let short = shortened(&line, size);
                    assert!(short.len() < STRING_BYTES_MAX + 100, "{unit:?}");
                    let value: Value = serde_json::from_str(&short).unwrap();
                    assert_eq!(value["list"], json!([1, { "end": "x\"y" }]));
                    assert!(long.starts_with(value["long"].as_str().unwrap()));
                }
            }
        }
    }

    #[test]
    fn pairs_of_escapes_are_not_cut_apart() {
        for offset in 0..12 {
            let long = "b".repeat(offset) + &"\\ud83d\\ude00".repeat(STRING_BYTES_MAX / 12 + 9);
            let short = shortened(&format!("[\"{long}\",\"\\\\ud83d\"]"), 5);
            let value: Value = serde_json::from_str(&short).unwrap();
            assert!(short.len() < long.len() && value[1] == "\\ud83d", "{offset}");
        }
    }

    #[test]
    fn damage_ends_with_its_line() {
        let text = "{\"torn\": \"\\\n{\"a\\u12\": 1}\n\"\\\"\n{\"b\": 2}\n";
        assert_eq!(shortened(text, 4), text);
    }

    #[test]
    fn line_of_any_size_stays_small() {
        let numbers = "1,".repeat(LINE_BYTES_MAX);
        let short = shortened(&format!("[{numbers}1]\n[\"next\"]\n"), 1 << 16);
        assert!(short.len() < LINE_BYTES_MAX + 100 && short.ends_with("\n[\"next\"]\n"));
        let strings = "\"a\",".repeat(LINE_BYTES_MAX);
        assert!(shortened(&format!("[{strings}1]"), 1 << 16).len() <= LINE_BYTES_MAX);
    }
}
