//! Gemini CLI's own deletion of old chats, from its settings.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::providers::{Basis, Retention, file, jsonc};

const HOUR_MS: i64 = 3_600_000;

/// Returns the age at which the CLI deletes; `None` if nothing is deleted by age or the settings
/// cannot be read. The limit by number (`maxCount`) is not predicted.
pub(super) fn retention(settings: &Path) -> Option<Retention> {
    let settings = read(settings)?;
    let rules = settings.pointer("/general/sessionRetention").unwrap_or(&Value::Null);
    if rules.get("enabled").is_some_and(|enabled| enabled != &Value::Bool(true)) {
        return None;
    }
    let age = |name: &str, default: &str| match rules.get(name) {
        None => period_ms(default),
        Some(period) => period.as_str().and_then(period_ms),
    };
    // With rules that contradict each other the CLI deletes nothing.
    let age_ms = age("maxAge", "30d")?;
    let least_ms = age("minRetention", "1d").unwrap_or(24 * HOUR_MS);
    (age_ms >= least_ms).then_some(Retention { basis: Basis::LastActivity, age_ms, swept_at: None })
}

/// Returns the settings: an empty object if there are none, `None` if they cannot be read.
pub(super) fn read(settings: &Path) -> Option<Value> {
    let text = match file::small(settings) {
        Err(error) if error.kind() == ErrorKind::NotFound => "{}".to_owned(),
        read => String::from_utf8(read.ok()?).ok()?,
    };
    jsonc::parse(&text)
}

/// Returns a period in milliseconds: `12h`, `30d`, `2w`, `1m` (30 days).
fn period_ms(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_number.then(|| digits.parse().ok())??;
    number.checked_mul(hours * HOUR_MS).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn retention_is_predicted_only_from_settings_the_cli_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let days = |path: &Path| retention(path).map(|rule| rule.age_ms / 24 / HOUR_MS);
        assert_eq!(days(&path), Some(30));
        for (rules, expected) in [
            (r#"{"maxAge":"2w"}"#, Some(14)),
            (r#"{"maxAge":"48h", /* "x" */ "enabled":true} // "y"#, Some(2)),
            (r#"{"enabled":false}"#, None),
            (r#"{"maxAge":"12h"}"#, None),
            (r#"{"maxAge":"12h","minRetention":"1h"}"#, Some(0)),
            (r#"{"maxAge":"soon // \" "}"#, None),
            (r#"{"maxAge":"0d"}"#, None),
            (r#"{"maxAge":"é"}"#, None),
            (r#"{"maxAge":30}"#, None),
            (r#"{"maxAge":"#, None),
        ] {
            let text = format!("{{\"general\":{{\"sessionRetention\":{rules}\n}}}}");
            fs::write(&path, text).unwrap();
            assert_eq!(days(&path), expected, "{rules}");
        }
    }
}
