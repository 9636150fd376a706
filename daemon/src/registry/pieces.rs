//! What an agent says in pieces: a secret that two of them share is hidden too, each but the first
//! of a text is marked as going on, and a whole that was said in pieces is not said again.
//! Knows no provider.

use std::hash::{DefaultHasher, Hasher};
use std::mem;

use serde_json::json;
use sessd_proto::{Event, Json};

use super::secrets::Secrets;

/// The pieces so far of what is being said.
pub(super) struct Pieces<'a> {
    secrets: &'a Secrets,
    current: Option<Text>,
}

/// A text that goes on.
struct Text {
    kind: String,
    has_begun: bool,
    /// Of what was passed on; the text itself may be as long as all output of a turn.
    hash: DefaultHasher,
    /// Its end, which may be the beginning of a secret.
    held: String,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(secrets: &'a Secrets) -> Self {
        Self { secrets, current: None }
    }

    /// What an event comes to.
    pub(super) fn pass(&mut self, event: Event) -> impl Iterator<Item = Event> + use<> {
        let (rest, event) = match &event {
            Event { kind, .. } if kind == "raw" => (None, Some(event)),
            Event { data, .. } if data.0["delta"] == true => self.piece(event),
            _ => {
                let (rest, text) = self.end();
                (rest, Some(event).filter(|event| !text.is_some_and(|text| text.is(event))))
            }
        };
        rest.into_iter().chain(event)
    }

    /// What was held back of a text that is at its end, and that text.
    fn end(&mut self) -> (Option<Event>, Option<Text>) {
        let mut text = self.current.take();
        let rest = text.as_mut().and_then(|text| {
            let held = mem::take(&mut text.held);
            text.say(self.secrets.hide_cut_off(held))
        });
        (rest, text)
    }

    /// What was held back of everything.
    pub(super) fn rest(&mut self) -> Option<Event> {
        self.end().0
    }

    fn piece(&mut self, event: Event) -> (Option<Event>, Option<Event>) {
        let goes_on = self.current.as_ref().is_some_and(|text| text.kind == event.kind);
        let rest = if goes_on { None } else { self.rest() };
        let text = self.current.get_or_insert_with(|| Text::new(event.kind));
        let mut said = mem::take(&mut text.held) + event.text.as_deref().unwrap_or_default();
        text.held = said.split_off(self.secrets.settled(&said));
        (rest, text.say(self.secrets.hide(said)))
    }
}

impl Text {
    fn new(kind: String) -> Self {
        Self { kind, has_begun: false, hash: DefaultHasher::new(), held: String::new() }
    }

    fn say(&mut self, said: String) -> Option<Event> {
        if said.is_empty() {
            return None;
        }
        self.hash.write(said.as_bytes());
        let goes_on = mem::replace(&mut self.has_begun, true);
        let data = if goes_on { json!({ "delta": true }) } else { json!({}) };
        let kind = self.kind.clone();
        Some(Event { kind, text: Some(said), data: Json(data), ..Event::default() })
    }

    /// True if an event says again what was said in pieces.
    fn is(&self, event: &Event) -> bool {
        let mut hash = DefaultHasher::new();
        hash.write(event.text.as_deref().unwrap_or_default().as_bytes());
        self.kind == event.kind && hash.finish() == self.hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, text: &str, is_piece: bool) -> Event {
        let data = if is_piece { json!({ "delta": true }) } else { json!({}) };
        let text = Some(text.to_owned());
        Event { kind: kind.to_owned(), text, data: Json(data), ..Event::default() }
    }

    fn passed(events: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
        let secrets = Secrets::of_values(&["hunter2-is-secret", "hunter2-is-secret-too"]);
        let mut pieces = Pieces::new(&secrets);
        let events = events.iter().map(|(kind, text, is_piece)| event(kind, text, *is_piece));
        let mut all: Vec<_> = events.flat_map(|event| pieces.pass(event)).collect();
        all.extend(pieces.rest());
        let told = |event: Event| {
            (event.kind, event.text.unwrap_or_default(), event.data.0["delta"] == true)
        };
        all.into_iter().map(told).collect()
    }

    fn said(kind: &str, text: &str, goes_on: bool) -> (String, String, bool) {
        (kind.to_owned(), text.to_owned(), goes_on)
    }

    #[test]
    fn a_whole_that_was_said_in_pieces_is_not_said_again() {
        let all = passed(&[
            ("thinking", "well", true),
            ("thinking", "well", false),
            ("text", "one ", true),
            ("raw", "a line", false),
            ("text", "two", true),
            ("text", "one two", false),
            ("text", "one two", false),
            ("tool_call", "", false),
            ("text", "three", true),
            ("text", "another", false),
        ]);
        let wanted = [
            said("thinking", "well", false),
            said("text", "one ", false),
            said("raw", "a line", false),
            said("text", "two", true),
            said("text", "one two", false),
            said("tool_call", "", false),
            said("text", "three", false),
            said("text", "another", false),
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_secret_in_pieces_is_hidden_and_what_only_begins_as_one_is_not() {
        let all = passed(&[
            ("text", "it is hun", true),
            ("text", "ter2-is-", true),
            ("text", "secret", true),
            ("text", "-t", true),
            ("text", "oo!", true),
            ("text", "it is ***!", false),
            ("text", "who hun", true),
            ("text", "ted? h", true),
            ("thinking", "hunter2-is-sec", true),
            ("text", "hunter2-is-secret", true),
        ]);
        let wanted = [
            said("text", "it is ", false),
            said("text", "***!", true),
            said("text", "who ", false),
            said("text", "hunted? ", true),
            said("text", "h", true),
            said("thinking", "***", false),
            said("text", "***", false),
        ];
        assert_eq!(all, wanted);
    }
}
