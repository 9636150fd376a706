//! Classifies a failed call of a model by the words that the services share: whether trying again
//! may help, and when. Knows no provider; each decoder passes in what its CLI shows.

use serde_json::{Value, json};
use sessd_proto::Event;
use sessd_proto::EventType;

use super::output;

/// Makes the `error` event of a failed call from the CLI's words and the HTTP status, where known.
/// Its data has `http_status`, `retryable` and `retry_after_ms`.
pub fn event(words: Option<&str>, http_status: Option<u16>) -> Event {
    let text = words.unwrap_or_default();
    let data = json!({
        "http_status": http_status,
        "retryable": retryable(http_status, text),
        "retry_after_ms": retry_after_ms(text),
    });
    output::event(EventType::Error, words, data)
}

/// Makes the `retry` event of a CLI that waits before it calls the model again. Its data has
/// `attempt`, `max_attempts`, `delay_ms` and `http_status`.
pub fn retry(cause: Option<&str>, attempt: &Value, max: &Value, delay_ms: &Value) -> Event {
    let data = json!({
        "attempt": attempt,
        "max_attempts": max,
        "delay_ms": delay_ms,
        "http_status": cause.and_then(http_status),
    });
    output::event(EventType::Retry, cause, data)
}

/// Returns true if the same call may work later, false if something has to be changed first.
fn retryable(http_status: Option<u16>, text: &str) -> Option<bool> {
    const TRANSIENT: &[&str] = &[
        "ECONNRE",
        "Connection reset",
        "fetch failed",
        "stream disconnected",
        "Unable to connect",
        "high demand",
        "timed out",
        "timeout",
    ];
    match http_status {
        Some(408 | 409 | 425 | 429 | 500..=599) => Some(true),
        Some(400..=499) => Some(false),
        _ => TRANSIENT.iter().any(|words| text.contains(words)).then_some(true),
    }
}

/// Returns the HTTP status in texts such as `unexpected status 401 Unauthorized` or
/// `last status: 429`.
pub fn http_status(text: &str) -> Option<u16> {
    let after = |word: &str| {
        text.match_indices(word).find_map(|(at, word)| {
            let rest = text[at + word.len()..].trim_start_matches([':', ' ']);
            let digits = rest.get(..3)?;
            let ends = !rest[3..].starts_with(|c: char| c.is_ascii_digit());
            digits.parse().ok().filter(|status| ends && (100..600).contains(status))
        })
    };
    after("status").or_else(|| after("code"))
}

/// Returns the delay in texts such as `Please try again in 1.898s` or `Please retry in 34s`.
fn retry_after_ms(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    ["try again in ", "retry in ", "retry after "].iter().find_map(|words| {
        let (_, rest) = lower.split_once(words)?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let count: f64 = rest[..end].trim_end_matches('.').parse().ok()?;
        let unit = rest[end..].trim_start();
        let unit_ms = match unit {
            _ if unit.starts_with("ms") || unit.starts_with("milli") => 1.0,
            _ if unit.starts_with('s') => 1_000.0,
            _ if unit.starts_with('m') => 60_000.0,
            _ if unit.starts_with('h') => 3_600_000.0,
            _ if unit.starts_with('d') => 86_400_000.0,
            _ => return None,
        };
        // Of a time in two parts (`1m30s`) only the first is read: early, but not wrong.
        let ms = (count * unit_ms).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        (0.0..=1e12).contains(&ms).then_some(ms as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_status_is_read_from_text() {
        for (text, status) in [
            ("unexpected status 401 Unauthorized: no, url: http://127.0.0.1:4965/v1", Some(401)),
            ("exceeded retry limit, last status: 429 Too Many Requests", Some(429)),
            ("  code: 404\n}", Some(404)),
            ("the exit status was bad; status 529 <unknown status code>", Some(529)),
            ("status 50012", None),
            ("no status", None),
            ("status 20", None),
        ] {
            assert_eq!(http_status(text), status, "{text}");
        }
    }

    #[test]
    fn retry_delay_is_read_from_text() {
        for (text, ms) in [
            ("Rate limit reached. Please try again in 1.898s.", Some(1_898)),
            ("Please retry in 34.074824224s.", Some(34_075)),
            ("Suggested retry after 30s.. Retrying after 34063ms", Some(30_000)),
            ("try again in 2 minutes", Some(120_000)),
            ("try again in 250ms", Some(250)),
            ("try again in a moment", None),
            ("try again in 1", None),
            ("try again in ..s", None),
        ] {
            assert_eq!(retry_after_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn transient_failures_are_told_from_permanent_ones() {
        for (status, text, may) in [
            (Some(429), "", Some(true)),
            (Some(529), "", Some(true)),
            (Some(401), "try again", Some(false)),
            (Some(404), "", Some(false)),
            (None, "Unable to connect to API (ECONNRESET)", Some(true)),
            (None, "Connection reset by server", Some(true)),
            (None, "an empty or malformed response", None),
        ] {
            assert_eq!(retryable(status, text), may, "{status:?} {text}");
        }
    }
}
