//! JSON records in lines, and the text in them. Tolerant: a torn or glued line is read as far as it
//! goes. Knows no provider.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::printable;

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;

/// The mark at the start of a file that tells its encoding.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Returns the records in one line: none if it is garbage, several if lines were glued together.
/// The rest of the line after the first error is skipped, and a byte order mark before the first.
pub fn records<'a, T: Deserialize<'a>>(line: &'a [u8]) -> impl Iterator<Item = T> {
    // A crash can leave blocks of NUL in the place of the last bytes.
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii_end();
    let end = line.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    serde_json::Deserializer::from_slice(&line[..end]).into_iter().map_while(Result::ok)
}

/// Returns the record that is the whole line, as the CLIs themselves read lines.
#[must_use]
pub fn whole<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// Parses a value on its own, so that an unexpected type in it spoils nothing around it.
#[must_use]
pub fn part<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}

/// Returns the text of a message: a string, or the text blocks of a list. `None` if there is none.
#[must_use]
pub fn text(content: Option<&RawValue>) -> Option<String> {
    let found = texts(content).join("\n");
    (!found.trim().is_empty()).then_some(found)
}

/// Returns the texts of a message: a string, or each of the text blocks of a list.
#[must_use]
pub fn texts(content: Option<&RawValue>) -> Vec<String> {
    match part::<Cow<'_, str>>(content) {
        Some(text) => vec![text.into_owned()],
        None => {
            let blocks = part::<Vec<&RawValue>>(content).unwrap_or_default();
            blocks.into_iter().filter_map(block_text).map(Cow::into_owned).collect()
        }
    }
}

/// Returns the text of one block; tool results are blocks without a `text` of their own.
fn block_text(block: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Block<'a> {
        #[serde(borrow)]
        text: Cow<'a, str>,
    }
    serde_json::from_str::<Block<'_>>(block.get()).ok().map(|block| block.text)
}

/// Makes a title for lists: one line that is safe to print, at most 200 characters.
#[must_use]
pub fn title(text: &str) -> Option<String> {
    let start: String = text.chars().take(8 * TITLE_CHARS_MAX).collect();
    let line = printable(&start);
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.chars().take(TITLE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Record {
        #[serde(default)]
        n: u32,
    }

    fn numbers(line: &[u8]) -> Vec<u32> {
        records::<Record>(line).map(|record| record.n).collect()
    }

    #[test]
    fn glued_torn_and_nul_lines_are_read_as_far_as_possible() {
        assert_eq!(numbers(br#"{"n":1}{"n":2,"new":[]}"#), [1, 2]);
        assert_eq!(numbers(b"{\"n\":1}\0\0\0"), [1]);
        assert_eq!(numbers(br#"{"n":1}{"n":2,"#), [1]);
        assert_eq!(numbers(b"\xef\xbb\xbf{\"n\":1}"), [1]);
        assert!(numbers(b"\0\0\0").is_empty() && numbers(b"garbage").is_empty());
    }

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(title(" a\n\tb \u{7}c").as_deref(), Some("a b c"));
        assert_eq!(title(&"é".repeat(300)).map(|title| title.chars().count()), Some(200));
        assert_eq!(title(" \n"), None);
        assert_eq!(title("a \u{202e}b\u{200b}\u{2028}c").as_deref(), Some("a b c"));
        assert_eq!(title("\u{200b}\u{2066}"), None);
    }
}
