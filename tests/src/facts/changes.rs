//! Compares two sheets of facts. Knows nothing of what they say.

use std::collections::BTreeSet;

use serde_json::Value;

/// Numbers that differ by less than this part of the larger are the same: sizes vary.
const SIZE_TOLERANCE: f64 = 0.25;

/// Returns one line for each fact that changed: `- place: old`, `+ place: new`. The words of a text
/// and the entries of a list are compared as sets.
pub fn changes(old: &Value, new: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", old, new, &mut lines);
    lines
}

fn compare(place: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let place = if place.is_empty() { key.clone() } else { format!("{place} / {key}") };
                compare(&place, &old[key], &new[key], lines);
            }
        }
        (Value::Number(before), Value::Number(after)) if is_about(before, after) => {}
        _ if old == new => {}
        _ => {
            let (before, after) = (words(old), words(new));
            let gone = before.difference(&after).map(|it| format!("- {place}: {it}"));
            lines.extend(gone);
            lines.extend(after.difference(&before).map(|it| format!("+ {place}: {it}")));
        }
    }
}

fn is_about(before: &serde_json::Number, after: &serde_json::Number) -> bool {
    let [before, after] = [before, after].map(|it| it.as_f64().unwrap_or_default());
    // Exit codes are small, and differ by one.
    before.max(after) >= 8.0 && (before - after).abs() < before.max(after) * SIZE_TOLERANCE
}

fn words(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Null => BTreeSet::new(),
        // A fact that is only there or not.
        Value::String(text) if text.is_empty() => ["is there".to_owned()].into(),
        Value::String(text) => text.split(' ').map(str::to_owned).collect(),
        Value::Array(entries) => entries.iter().flat_map(words).collect(),
        Value::Object(parts) => parts.keys().cloned().collect(),
        other => [other.to_string()].into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::changes;

    #[test]
    fn changes_are_told_word_by_word() {
        let old = json!({"a": "one two", "size": 100, "code": 1, "list": ["x"], "gone": ""});
        let new = json!({"a": "two three", "size": 110, "code": 0, "list": ["x", "y"]});
        let wanted =
            ["- a: one", "+ a: three", "- code: 1", "+ code: 0", "- gone: is there", "+ list: y"];
        assert_eq!(changes(&old, &new), wanted);
        assert_eq!(changes(&new, &new), [""; 0]);
    }
}
