//! Redacts text that streams in as deltas, and normalises those deltas.
//!
//! Providers stream an answer in chunks, and a secret may span two of them. So the end of a
//! chunk that may be the start of a secret is held back until the next chunk arrives.
//! Chunks after the first are marked with `delta: true`, so that a reader can join them. Many
//! providers repeat the whole text as one final block; that block is dropped. It is recognised by
//! a hash, because the text may be as large as a turn's whole output.
//! Knows no provider.

use std::hash::{DefaultHasher, Hasher};
use std::mem;

use serde_json::json;
use sessd_proto::{Event, EventType, Json};

use crate::redact::Secrets;

/// Passes the events of one turn through, redacting and normalising streamed text.
pub(crate) struct StreamRedactor<'a> {
    secrets: &'a Secrets,
    current: Option<Text>,
}

/// A text that is being streamed.
struct Text {
    kind: EventType,
    has_started: bool,
    /// The hash of the text that was passed on.
    hash: DefaultHasher,
    /// The held-back end, which may be the start of a secret.
    held: String,
}

impl<'a> StreamRedactor<'a> {
    /// Creates a redactor that hides these secrets.
    pub(crate) fn new(secrets: &'a Secrets) -> Self {
        Self { secrets, current: None }
    }

    /// Passes an event through: zero, one or two events come out.
    pub(crate) fn pass(&mut self, event: Event) -> impl Iterator<Item = Event> + use<> {
        let (rest, event) = match &event {
            Event { kind, .. } if *kind == EventType::Raw => (None, Some(event)),
            Event { data, .. } if data.0["delta"] == true => self.delta(event),
            _ => {
                let (rest, text) = self.end();
                (
                    rest,
                    Some(event)
                        .filter(|event| !text.is_some_and(|text| text.is_repeated_by(event))),
                )
            }
        };
        rest.into_iter().chain(event)
    }

    /// Ends the current text; returns its held-back end as an event, and the text.
    fn end(&mut self) -> (Option<Event>, Option<Text>) {
        let mut text = self.current.take();
        let rest = text.as_mut().and_then(|text| {
            let held = mem::take(&mut text.held);
            text.emit(self.secrets.hide_cut_off(held))
        });
        (rest, text)
    }

    /// Returns the text that is still held back at the end of the output.
    pub(crate) fn finish(&mut self) -> Option<Event> {
        self.end().0
    }

    /// Passes on the part of a delta that is safe; the end of another text comes first.
    fn delta(&mut self, event: Event) -> (Option<Event>, Option<Event>) {
        let continues = self.current.as_ref().is_some_and(|text| text.kind == event.kind);
        let rest = if continues { None } else { self.finish() };
        let text = self.current.get_or_insert_with(|| Text::new(event.kind));
        let mut said = mem::take(&mut text.held) + event.text.as_deref().unwrap_or_default();
        text.held = said.split_off(self.secrets.settled_len(&said));
        (rest, text.emit(self.secrets.hide(said)))
    }
}

impl Text {
    fn new(kind: EventType) -> Self {
        Self { kind, has_started: false, hash: DefaultHasher::new(), held: String::new() }
    }

    /// Returns the event that passes text on; `None` for empty text.
    fn emit(&mut self, said: String) -> Option<Event> {
        if said.is_empty() {
            return None;
        }
        self.hash.write(said.as_bytes());
        let is_delta = mem::replace(&mut self.has_started, true);
        let data = if is_delta { json!({ "delta": true }) } else { json!({}) };
        let kind = self.kind;
        Some(Event { kind, text: Some(said), data: Json(data), ..Event::default() })
    }

    /// True if an event repeats the streamed text as a whole.
    fn is_repeated_by(&self, event: &Event) -> bool {
        let mut hash = DefaultHasher::new();
        hash.write(event.text.as_deref().unwrap_or_default().as_bytes());
        self.kind == event.kind && hash.finish() == self.hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventType, text: &str, is_delta: bool) -> Event {
        let data = if is_delta { json!({ "delta": true }) } else { json!({}) };
        let text = Some(text.to_owned());
        Event { kind, text, data: Json(data), ..Event::default() }
    }

    fn passed(events: &[(EventType, &str, bool)]) -> Vec<(EventType, String, bool)> {
        let secrets = Secrets::of_values(&["hunter2-is-secret", "hunter2-is-secret-too"]);
        let mut redactor = StreamRedactor::new(&secrets);
        let events = events.iter().map(|(kind, text, is_delta)| event(*kind, text, *is_delta));
        let mut all: Vec<_> = events.flat_map(|event| redactor.pass(event)).collect();
        all.extend(redactor.finish());
        let tuple = |event: Event| {
            (event.kind, event.text.unwrap_or_default(), event.data.0["delta"] == true)
        };
        all.into_iter().map(tuple).collect()
    }

    fn said(kind: EventType, text: &str, is_delta: bool) -> (EventType, String, bool) {
        (kind, text.to_owned(), is_delta)
    }

    #[test]
    fn final_block_that_repeats_the_deltas_is_dropped() {
        let all = passed(&[
            (EventType::Thinking, "well", true),
            (EventType::Thinking, "well", false),
            (EventType::Text, "one ", true),
            (EventType::Raw, "a line", false),
            (EventType::Text, "two", true),
            (EventType::Text, "one two", false),
            (EventType::Text, "one two", false),
            (EventType::ToolCall, "", false),
            (EventType::Text, "three", true),
            (EventType::Text, "another", false),
        ]);
        let wanted = [
            said(EventType::Thinking, "well", false),
            said(EventType::Text, "one ", false),
            said(EventType::Raw, "a line", false),
            said(EventType::Text, "two", true),
            said(EventType::Text, "one two", false),
            said(EventType::ToolCall, "", false),
            said(EventType::Text, "three", false),
            said(EventType::Text, "another", false),
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn secret_that_spans_deltas_is_hidden() {
        let all = passed(&[
            (EventType::Text, "it is hun", true),
            (EventType::Text, "ter2-is-", true),
            (EventType::Text, "secret", true),
            (EventType::Text, "-t", true),
            (EventType::Text, "oo!", true),
            (EventType::Text, "it is ***!", false),
            (EventType::Text, "who hun", true),
            (EventType::Text, "ted? h", true),
            (EventType::Thinking, "hunter2-is-sec", true),
            (EventType::Text, "hunter2-is-secret", true),
        ]);
        let wanted = [
            said(EventType::Text, "it is ", false),
            said(EventType::Text, "***!", true),
            said(EventType::Text, "who ", false),
            said(EventType::Text, "hunted? ", true),
            said(EventType::Text, "h", true),
            said(EventType::Thinking, "***", false),
            said(EventType::Text, "***", false),
        ];
        assert_eq!(all, wanted);
    }
}
