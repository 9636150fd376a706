//! JSON as people write it in settings: with comments and, where the CLI allows them, trailing
//! commas. Knows no provider.

use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

/// JSON with comments: all that every one of the CLIs accepts.
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

/// Parses JSON with comments; `None` if it is not valid.
#[must_use]
pub fn parse(text: &str) -> Option<Value> {
    parse_to_serde_value(text, &STRICT).ok()
}

/// Parses JSON with comments and trailing commas; `None` if it is not valid.
#[must_use]
pub fn parse_with_commas(text: &str) -> Option<Value> {
    parse_to_serde_value(text, &ParseOptions { allow_trailing_commas: true, ..STRICT }).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_ignored() {
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
