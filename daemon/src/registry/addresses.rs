//! What stands behind the host in an address: names, and what may be a key. Knows no server.

use super::secrets::LENGTH_MIN;

/// One as short as `n8n` is a word whatever it is made of, in bytes.
const SHORT_WORD_MAX: usize = 3;

/// A word may have a number behind it, such as a year.
const NUMBER_LENGTH_MAX: usize = 4;

/// What comes after the host in an address.
pub(super) fn parts(url: &str) -> impl Iterator<Item = &str> {
    url.split(['/', '?', '&', '=', '#']).skip(3)
}

/// True of what any text may say: words between hyphens and the like, few letters of them
/// capitals, where of a random one every other is. What cannot be told: a key that looks like
/// words, as of small letters with a short number behind them or in short groups, is a name; a
/// name with digits before letters, a long number or many capitals is a key.
pub(super) fn may_be_name(part: &str) -> bool {
    has_few_capitals(part) && part.split(|c: char| !c.is_alphanumeric()).all(may_be_word)
}

fn has_few_capitals(text: &str) -> bool {
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    let capitals = text.chars().filter(char::is_ascii_uppercase).count();
    capitals * 3 <= letters
}

/// True of letters, and a short number behind them.
fn may_be_word(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    word.len() <= SHORT_WORD_MAX
        || word.len() - letters.len() <= NUMBER_LENGTH_MAX
            && !letters.contains(|c: char| c.is_ascii_digit())
            && (word.len() < LENGTH_MIN || has_few_capitals(word))
}
