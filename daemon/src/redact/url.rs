//! Tells ordinary URL path segments from segments that look like an API key. Knows no server.

use super::LENGTH_MIN;

/// The longest segment that counts as a word whatever its characters are (`n8n`), in bytes.
const SHORT_WORD_MAX: usize = 3;

/// The longest number that may follow a word, such as a year, in digits.
const NUMBER_LENGTH_MAX: usize = 4;

/// Returns the segments after the host of a URL.
pub(crate) fn parts(url: &str) -> impl Iterator<Item = &str> {
    url.split(['/', '?', '&', '=', '#']).skip(3)
}

/// True if a segment reads like ordinary words: letters between hyphens and the like, few of them
/// capitals (in a random key every other letter is one). The guess can be wrong either way. A
/// key of small letters with a short number passes as a name; a name with digits before letters, a
/// long number or many capitals is taken for a key.
pub(crate) fn may_be_name(part: &str) -> bool {
    has_few_capitals(part) && part.split(|c: char| !c.is_alphanumeric()).all(may_be_word)
}

fn has_few_capitals(text: &str) -> bool {
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    let capitals = text.chars().filter(char::is_ascii_uppercase).count();
    capitals * 3 <= letters
}

/// True for letters followed by a short number.
fn may_be_word(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    word.len() <= SHORT_WORD_MAX
        || word.len() - letters.len() <= NUMBER_LENGTH_MAX
            && !letters.contains(|c: char| c.is_ascii_digit())
            && (word.len() < LENGTH_MIN || has_few_capitals(word))
}
