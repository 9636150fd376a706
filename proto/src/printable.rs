//! Foreign text in one line that is safe to print: titles, names and paths that others wrote.
//! Knows no terminal and no provider.

use std::borrow::Cow;

/// Replaces line ends and control characters by spaces, and removes characters that have no width
/// or turn the direction of a line around. Joiners stay where writing needs them: between emoji,
/// and in scripts that join letters.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        match character {
            '\u{2028}' | '\u{2029}' => clean.push(' '),
            _ if character.is_control() => clean.push(' '),
            '\u{200c}' | '\u{200d}' => {
                let after = characters.peek().copied().unwrap_or(' ');
                if joins(character, before, after) {
                    clean.push(character);
                }
                continue;
            }
            _ if is_selector(character) => {
                if !before.is_whitespace() && !is_selector(before) {
                    clean.push(character);
                }
            }
            _ if is_invisible(character) => continue,
            _ => clean.push(character),
        }
        before = character;
    }
    clean.into()
}

/// True for characters that choose the look of the one before them.
fn is_selector(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// True if a joiner between these two characters changes how they are written.
fn joins(joiner: char, before: char, after: char) -> bool {
    let is_emoji = |c: char| matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}');
    let is_joined = |c: char| matches!(c, '\u{600}'..='\u{dff}');
    let is_dressed = |c: char| is_emoji(c) || c == '\u{fe0f}';
    (joiner == '\u{200d}' && is_dressed(before) && is_emoji(after))
        || (is_joined(before) && (is_joined(after) || after == ' '))
}

/// True for characters without width: marks of direction, spaces of no width, tags, fillers.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_or_hides_is_removed() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}d"), "a [2Jb  c d");
        assert_eq!(printable("rename \u{202e}gnp.exe\u{2066}\u{200f}"), "rename gnp.exe");
        assert_eq!(printable("a\u{200b}b\u{2060}c\u{feff}d\u{e0041}e\u{ad}"), "abcde");
        assert_eq!(printable("one\u{2028}two\u{2029}three"), "one two three");
        assert_eq!(printable("pass\u{200d}word\u{200c}s"), "passwords");
        assert_eq!(printable("a\u{fe00}\u{fe01}\u{e0100}b"), "a\u{fe00}b");
    }

    #[test]
    fn what_writing_needs_stays() {
        let family = "\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}\u{200d}\u{1f525}";
        for text in
            [family, "日本語 Ünïcode", "می\u{200c}خواهم", "क्\u{200d}ष", "🏳\u{fe0f}\u{200d}🌈"]
        {
            assert_eq!(printable(text), text);
        }
    }
}
