//! JSON as people write it into settings: with comments, and with commas after the last one where
//! the program allows them. Knows no provider.

use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

/// Nothing but JSON, as far as no program takes more.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// What a text with comments means, if anything.
#[must_use]
pub fn parse(text: &str) -> Option<Value> {
    parse_to_serde_value(text, &STRICT).ok()
}

/// The same of one that may have commas that nothing follows.
#[must_use]
pub fn parse_with_commas(text: &str) -> Option<Value> {
    parse_to_serde_value(text, &ParseOptions { allow_trailing_commas: true, ..STRICT }).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_last_commas_are_no_part_of_what_is_meant() {
        let text = r#"{"a": [1, "2, ]", ], // "b"
            "c": "// \" /* ,", /* "x": 1, */ }"#;
        assert_eq!(parse_with_commas(text), Some(json!({ "a": [1, "2, ]"], "c": "// \" /* ," })));
        assert_eq!(parse(text), None);
        assert_eq!(parse("{} // a"), Some(json!({})));
        for odd in ["{'a': 1}", "{a: 1}", "{\"a\": 0x1}", "{\"a\": 1 \"b\": 2}", "{} {}", "{"] {
            assert_eq!(parse_with_commas(odd), None, "{odd}");
        }
        assert_eq!(parse_with_commas(&"[".repeat(1_000_000)), None);
    }
}
