//! JSON as people write it into settings: with comments, and commas after the last one.
//! Knows no provider.

use serde_json::Value;

/// What a text with comments and needless commas means, if anything.
#[must_use]
pub fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(&without_last_commas(&without_comments(text))).ok()
}

/// The text without its comments; strings may hold what looks like one.
#[must_use]
pub fn without_comments(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            let end = if rest.starts_with('"') { string_end(rest) } else { 1 };
            clean.push_str(&rest[..end]);
            end
        };
        rest = &rest[end..];
    }
    clean + rest
}

/// The text without commas that nothing follows.
fn without_last_commas(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', ',']) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('"') { string_end(rest) } else { 1 };
        if !rest[end..].trim_start().starts_with(['}', ']']) || end > 1 {
            clean.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    clean + rest
}

/// Where the string ends that the text starts with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_last_commas_mean_nothing_outside_of_strings() {
        let text = r#"{ // one
            "a": ["// no", "x,]", "\",}",], /* two, */ "b": {"c": 1, /* three */ }, }"#;
        assert_eq!(parse(text), Some(json!({"a": ["// no", "x,]", "\",}"], "b": {"c": 1}})));
        assert_eq!(parse("{"), None);
    }
}
