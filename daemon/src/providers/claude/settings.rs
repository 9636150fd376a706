//! Claude Code's own deletion of old transcripts, from its settings.

use std::fs;
use std::io;
use std::path::Path;

use crate::providers::{Basis, Retention};

const DAY_MS: i64 = 86_400_000;

/// Returns the age at which the CLI deletes; `None` if it deletes nothing.
pub(super) fn retention(settings: &Path) -> Option<Retention> {
    let days = cleanup_days(settings)?;
    Some(Retention { basis: Basis::Modified, age_ms: days.checked_mul(DAY_MS)? })
}

/// Returns the number of days after which the CLI deletes. With settings it cannot read it deletes
/// nothing; 0 is refused by some versions and means "keep nothing" to others, so that nothing can
/// be predicted.
fn cleanup_days(settings: &Path) -> Option<i64> {
    const DEFAULT: i64 = 30;
    let bytes = match fs::read(settings) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(DEFAULT),
        read => read.ok()?,
    };
    let settings: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    match settings.get("cleanupPeriodDays") {
        None => Some(DEFAULT),
        Some(days) => days.as_i64().filter(|days| *days > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_predicted_only_from_settings_the_cli_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("settings.json");
        assert_eq!(cleanup_days(&settings), Some(30));
        for (text, days) in [
            (r#"{"cleanupPeriodDays":5}"#, Some(5)),
            (r#"{"model":"x"}"#, Some(30)),
            (r#"{"cleanupPeriodDays":0}"#, None),
            (r#"{"cleanupPeriodDays":"#, None),
        ] {
            fs::write(&settings, text).unwrap();
            assert_eq!(cleanup_days(&settings), days, "{text}");
        }
    }
}
