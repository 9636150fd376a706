//! The rules by which Codex accepts the records of a rollout. Knows neither homes nor folders.
//!
//! The CLI reads the first record strictly and refuses the session if it lacks anything. Behind it,
//! a line that it cannot read is skipped. In a rollout with numbered records the last one that it
//! can read must have its number, since the next one is numbered after it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::{Reason, Timestamp};

use super::rollout::{self, Base, KINDS};
use super::talk;
use crate::providers::head_tail::HeadTail;
use crate::providers::record::{part, records, whole};

/// A record as the CLI needs it.
#[derive(Deserialize)]
struct Strict<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    ordinal: Option<u64>,
}

/// The fields of the first record that the CLI needs.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only their types are checked")]
struct Needed<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    cwd: Cow<'a, str>,
    #[serde(borrow)]
    originator: Cow<'a, str>,
    #[serde(borrow)]
    cli_version: Cow<'a, str>,
    history_base: Option<Base>,
}

/// The kind of history, which is a word that newer versions may have more of.
#[derive(Deserialize)]
struct Mode<'a> {
    #[serde(borrow, default)]
    history_mode: Option<Cow<'a, str>>,
}

/// The judgement of a rollout's records.
#[derive(Default)]
pub(super) struct Format {
    /// The reason for which the CLI would refuse the first line or the last.
    pub(super) fault: Option<Reason>,
    /// True if the records are numbered.
    pub(super) is_numbered: bool,
    /// True if all that was read is text.
    pub(super) is_text: bool,
    /// True if there is something to continue from in what was read.
    pub(super) has_context: bool,
}

impl Format {
    pub(super) fn of(ends: &HeadTail) -> Self {
        let first = first(ends);
        let mode = first.as_ref().and_then(|record| part::<Mode<'_>>(Some(record.payload)));
        let mode = mode.and_then(|mode| mode.history_mode);
        let is_numbered = mode.as_deref() == Some("paginated");
        let is_newer = mode.is_some_and(|mode| !matches!(&*mode, "paginated" | "legacy"));
        let fault = first_fault(ends, first.is_some());
        let fault = fault.or(is_newer.then_some(Reason::NewerFormat));
        let fault = fault.or((is_numbered && lacks_number(ends)).then_some(Reason::RecordBroken));
        let mut lines = ends.head().chain(ends.tail_reversed());
        let has_context = lines.any(|line| has_context(line, is_numbered));
        Self { fault, is_numbered, is_text: ends.is_utf8(), has_context }
    }
}

/// Returns the first record, if the CLI takes it for the description of a session.
fn first(ends: &HeadTail) -> Option<Strict<'_>> {
    let line = ends.head().next().filter(|line| ends.is_utf8() || !has_replacement(line))?;
    let record = whole::<Strict<'_>>(line)?;
    let is_whole = record.of == "session_meta"
        && part::<Needed<'_>>(Some(record.payload)).is_some()
        && part::<Mode<'_>>(Some(record.payload)).is_some()
        && rollout::meta(&record.of, Some(record.payload)).is_some();
    is_whole.then_some(record)
}

/// Returns why the CLI would refuse the first line.
fn first_fault(ends: &HeadTail, is_accepted: bool) -> Option<Reason> {
    if is_accepted {
        return None;
    }
    if ends.is_too_long() {
        return Some(Reason::TranscriptUnreadable);
    }
    let is_readable = ends.head().next().and_then(whole::<serde::de::IgnoredAny>).is_some();
    let is_text = ends.head().next().is_some_and(|line| ends.is_utf8() || !has_replacement(line));
    let follows = rollout::heads(ends).any(|it| rollout::meta(&it.of, it.payload).is_some());
    Some(match (is_readable && is_text, follows) {
        (false, true) => Reason::FirstRecordBroken,
        _ => Reason::SessionMetaMissing,
    })
}

/// True if the last record that the CLI reads has no number.
fn lacks_number(ends: &HeadTail) -> bool {
    let read = |line| {
        let record = whole::<Strict<'_>>(line)?;
        let is_known = KINDS.knows(&record.of) && record.payload.get().starts_with('{');
        (is_known && Timestamp::parse(&record.timestamp).is_some()).then_some(record.ordinal)
    };
    ends.tail_reversed().find_map(read).is_some_and(|ordinal| ordinal.is_none())
}

/// True if a line has something that the CLI sends to the model. Where records are numbered it
/// sends items only; older rollouts may be written by programs that record only events.
pub(super) fn has_context(line: &[u8], is_numbered: bool) -> bool {
    records(line).any(|record| talk::is_sent(&record) || (!is_numbered && talk::is_part(&record)))
}

/// True if bytes of a line were not UTF-8, which the CLI refuses in the first line.
fn has_replacement(line: &[u8]) -> bool {
    memchr::memmem::find(line, "\u{fffd}".as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn format(records: &[Value]) -> Format {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = records.iter().map(|record| format!("{record}\n")).collect();
        fs::write(file.path(), text).unwrap();
        Format::of(&HeadTail::read(file.path(), 1 << 16).unwrap())
    }

    fn first(field: &str, value: Value) -> Value {
        let mut payload = json!({ "id": "i", "timestamp": "2026-01-01T10:00:00.000Z", "cwd": "/",
            "originator": "codex_exec", "cli_version": "0.171.0", "history_mode": "paginated" });
        payload[field] = value;
        record("session_meta", 0.into(), payload)
    }

    fn record(of: &str, ordinal: Value, payload: Value) -> Value {
        let time = "2026-01-01T10:00:00.000Z";
        json!({ "timestamp": time, "ordinal": ordinal, "type": of, "payload": payload })
    }

    fn said(ordinal: Value) -> Value {
        let content = json!([{ "type": "input_text", "text": "hi" }]);
        record(
            "response_item",
            ordinal,
            json!({ "type": "message", "role": "user", "content": content }),
        )
    }

    #[test]
    fn first_record_must_be_complete() {
        const META: Option<Reason> = Some(Reason::SessionMetaMissing);
        for (field, value, fault) in [
            ("id", "i".into(), None),
            ("id", Value::Null, META),
            ("timestamp", Value::Null, META),
            ("cwd", 7.into(), META),
            ("originator", Value::Null, META),
            ("cli_version", Value::Null, META),
            ("history_base", "text".into(), META),
            ("history_base", Value::Null, None),
            ("history_mode", 7.into(), META),
            ("history_mode", "legacy".into(), None),
            ("history_mode", "of-tomorrow".into(), Some(Reason::NewerFormat)),
            ("of-tomorrow", "text".into(), None),
        ] {
            let found = format(&[first(field, value.clone()), said(1.into())]).fault;
            assert_eq!(found, fault, "{field}: {value}");
        }
    }

    #[test]
    fn last_record_that_is_read_must_have_its_number() {
        let first = first("id", "i".into());
        let unknown = record("of-tomorrow", Value::Null, json!({}));
        let typed = record("event_msg", "5".into(), json!({ "type": "task_complete" }));
        for (records, is_refused) in [
            (vec![said(1.into())], false),
            (vec![said(Value::Null)], true),
            (vec![said(Value::Null), said(2.into())], false),
            (vec![said(1.into()), unknown.clone()], false),
            (vec![said(Value::Null), unknown], true),
            (vec![said(1.into()), typed], false),
        ] {
            let found = format(&[vec![first.clone()], records.clone()].concat()).fault;
            assert_eq!(found == Some(Reason::RecordBroken), is_refused, "{records:?}");
        }
    }

    #[test]
    fn only_what_is_sent_is_context() {
        let typed = |text: &str| json!({ "type": "user_message", "message": text });
        let event = record("event_msg", 1.into(), typed("hi"));
        let environment = "<environment_context>\n<cwd>/</cwd>\n</environment_context>";
        let content = json!([{ "type": "input_text", "text": environment }]);
        let own = json!({ "type": "message", "role": "user", "content": content });
        let own = record("response_item", 1.into(), own);
        let picture = json!([{ "type": "input_image", "image_url": "data:" }]);
        let picture = json!({ "type": "message", "role": "user", "content": picture });
        let picture = record("response_item", 1.into(), picture);
        let has = |mode: &str, record: &Value| {
            format(&[first("history_mode", mode.into()), record.clone()]).has_context
        };
        for mode in ["paginated", "legacy"] {
            assert!(
                has(mode, &said(1.into())) && has(mode, &picture) && !has(mode, &own),
                "{mode}"
            );
        }
        assert!(!has("paginated", &event) && has("legacy", &event));
    }
}
