//! Reads a chat: applies its patch log. Knows neither homes nor folders.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::Timestamp;

use crate::providers::record::{self, part, whole};
use crate::providers::scan::{SCAN_BYTES_MAX, scan};
use crate::providers::title::{Best, Noise, Prompt};
use crate::providers::{file, shorten};

/// Larger files of the old format, which is one JSON object, have their long strings cut, in
/// bytes; what is larger even then is unreadable.
const OLD_FORMAT_BYTES_MAX: usize = 8 << 20;

/// A chat with more messages is unreadable.
const MESSAGES_MAX: usize = 100_000;

/// One line of the log; its fields tell its type. The old format is one such record.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record<'a> {
    #[serde(borrow, rename = "$rewindTo")]
    rewind_to: Option<&'a RawValue>,
    #[serde(borrow, rename = "$set")]
    set: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    project_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    start_time: Option<&'a RawValue>,
    #[serde(borrow)]
    last_updated: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    of: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    thoughts: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
}

/// A message, as far as metadata needs it.
struct Message {
    id: String,
    at: Option<Timestamp>,
    prompt: Option<Prompt>,
    /// True if the user wrote it and the CLI would continue from it.
    is_request: bool,
    is_answer: bool,
    model: Option<String>,
}

/// A chat, as far as metadata needs it.
#[derive(Default)]
pub(super) struct Chat {
    pub(super) session_id: Option<String>,
    /// True if the CLI would accept it as a chat at all.
    pub(super) has_header: bool,
    has_hash: bool,
    pub(super) start_time: Option<Timestamp>,
    pub(super) last_updated: Option<Timestamp>,
    pub(super) summary: Option<String>,
    pub(super) is_subagent: bool,
    /// True if the file ever had a message of the user or the model, whatever was undone later.
    pub(super) had_message: bool,
    messages: Vec<Message>,
    /// The index in `messages` of every id.
    index: HashMap<String, usize>,
}

impl Chat {
    /// Applies the whole log: any line may replace all before it. Skips damaged lines, as the CLI
    /// does.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or read, or is too large.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut chat = Self::default();
        if file::open(path)?.1.len() > SCAN_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        scan(path, |line| {
            // To the CLI each of the two characters ends a line.
            let records = line.split(|byte| *byte == b'\r').filter_map(whole::<Record<'_>>);
            records.for_each(|record| chat.apply(&record));
            chat.messages.len() <= MESSAGES_MAX
        })?;
        if chat.messages.len() > MESSAGES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        chat.has_header = chat.has_hash && chat.session_id.is_some();
        if !chat.has_header {
            chat.read_old(path)?;
        }
        Ok(chat)
    }

    /// Reads the old format: one object over many lines, without patches.
    fn read_old(&mut self, path: &Path) -> io::Result<()> {
        let (file, metadata) = file::open(path)?;
        let mut bytes = Vec::new();
        if metadata.len() <= OLD_FORMAT_BYTES_MAX as u64 {
            Read::read_to_end(&mut file.take(OLD_FORMAT_BYTES_MAX as u64), &mut bytes)?;
        } else {
            shorten::read(file, &mut bytes, 2 * OLD_FORMAT_BYTES_MAX)?;
        }
        let Ok(record) = serde_json::from_slice::<Record<'_>>(&bytes) else { return Ok(()) };
        if string(record.session_id).is_some() && record.id.is_none() && record.set.is_none() {
            self.set(&record);
            self.has_header = true;
        }
        Ok(())
    }

    /// True if there is anything to continue. An answer is enough: the CLI takes every prompt that
    /// starts with `/` for a command.
    pub(super) fn has_content(&self) -> bool {
        self.messages.iter().any(|message| message.is_answer || message.is_request)
    }

    /// Returns the first prompt, as a title.
    pub(super) fn prompt(&self) -> Option<String> {
        best(self.messages.iter())
    }

    /// Returns the last prompt, as a title.
    pub(super) fn last_prompt(&self) -> Option<String> {
        best(self.messages.iter().rev())
    }

    /// Returns the model that answered last.
    pub(super) fn model(&self) -> Option<&str> {
        self.messages.iter().rev().find_map(|message| message.model.as_deref())
    }

    /// Returns the time of the last message.
    pub(super) fn last_message(&self) -> Option<Timestamp> {
        self.messages.iter().rev().find_map(|message| message.at)
    }

    fn apply(&mut self, record: &Record<'_>) {
        if let Some(id) = string(record.rewind_to) {
            self.rewind(&id);
        } else if string(record.id).is_some() {
            self.put(record);
        } else if let Some(patch) = part::<Record<'_>>(record.set) {
            self.set(&patch);
        } else if string(record.session_id).is_some() && string(record.project_hash).is_some() {
            self.set(record);
        }
    }

    fn set(&mut self, patch: &Record<'_>) {
        replace(&mut self.session_id, string(patch.session_id));
        self.has_hash |= string(patch.project_hash).is_some_and(|hash| !hash.is_empty());
        // Every resume writes a header with another start time.
        self.start_time = self.start_time.or(time(patch.start_time));
        replace(&mut self.last_updated, time(patch.last_updated));
        replace(&mut self.summary, string(patch.summary));
        if let Some(kind) = string(patch.kind) {
            self.is_subagent = kind == "subagent";
        }
        if let Some(messages) = part::<Vec<&RawValue>>(patch.messages) {
            self.messages.clear();
            self.index.clear();
            // One that is odd spoils no other.
            let messages = messages.into_iter().filter_map(|it| part::<Record<'_>>(Some(it)));
            messages.for_each(|message| self.put(&message));
        }
    }

    /// Adds a message; one with a known id replaces the earlier.
    fn put(&mut self, record: &Record<'_>) {
        let Some(id) = string(record.id) else { return };
        let of = string(record.of);
        let text = record::text(record.content).filter(|_| of.as_deref() == Some("user"));
        self.had_message |= is_talk(of.as_deref(), record);
        let message = Message {
            at: time(record.timestamp),
            prompt: text.as_deref().and_then(prompt),
            is_request: text.is_some_and(|text| !is_ignored(&text)),
            is_answer: of.as_deref() == Some("gemini") && is_answer(record),
            model: string(record.model),
            id,
        };
        match self.index.get(&message.id) {
            Some(at) => self.messages[*at] = message,
            None => {
                self.index.insert(message.id.clone(), self.messages.len());
                self.messages.push(message);
            }
        }
    }

    /// Removes this message and all after it; all messages if the id is unknown.
    fn rewind(&mut self, id: &str) {
        let at = self.index.get(id).copied().unwrap_or(0);
        for message in self.messages.drain(at..) {
            self.index.remove(&message.id);
        }
    }
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

fn string(value: Option<&RawValue>) -> Option<String> {
    part::<Cow<'_, str>>(value).map(Cow::into_owned)
}

fn time(value: Option<&RawValue>) -> Option<Timestamp> {
    Timestamp::parse(&string(value)?)
}

const NOISE: Noise =
    Noise { elements: &["session_context", "hook_context", "system-reminder"], passages: &[] };

/// True for what the CLI does not count as a message: its commands, and texts that it wrote itself.
fn is_ignored(text: &str) -> bool {
    const IGNORED: [&str; 4] = ["/", "?", "<session_context>", "<hook_context>"];
    IGNORED.iter().any(|opening| text.trim_start().starts_with(opening))
}

/// Returns the prompt in a text, as a title; a command is the worst of all.
fn prompt(text: &str) -> Option<Prompt> {
    Some(match NOISE.prompt(text)? {
        Prompt::Words(words) if words.starts_with(['/', '?']) => Prompt::Substitute(words),
        prompt => prompt,
    })
}

fn best<'m>(messages: impl Iterator<Item = &'m Message>) -> Option<String> {
    let mut best = Best::default();
    for message in messages {
        best.add(message.prompt.clone());
        if best.is_final() {
            break;
        }
    }
    best.title()
}

/// True for a message of the user or the model. The CLI puts the context of the start into a
/// message of the user.
fn is_talk(of: Option<&str>, record: &Record<'_>) -> bool {
    let text = record::text(record.content).unwrap_or_default();
    let is_context = of == Some("user") && text.trim_start().starts_with("<session_context>");
    matches!(of, Some("user" | "gemini")) && !is_context
}

fn is_answer(record: &Record<'_>) -> bool {
    let parts = [record.tool_calls, record.thoughts];
    let has_parts = |part: Option<&RawValue>| !matches!(part.map(RawValue::get), None | Some("[]"));
    record::text(record.content).is_some() || parts.into_iter().any(has_parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(lines: &str) -> Chat {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        Chat::read(file.path()).unwrap()
    }

    const HEADER: &str = r#"{"sessionId":"s","projectHash":"h","kind":"main"}"#;

    #[test]
    fn log_is_applied_in_order() {
        let log = format!(
            "{HEADER}\n{}\n{}\n{}\n",
            r#"{"id":"1","type":"user","content":[{"text":"first"}]}"#,
            r#"{"id":"2","type":"gemini","content":"answer","model":"m1"}"#,
            r#"{"id":"2","type":"gemini","content":"better","model":"m2"}"#,
        );
        assert_eq!(chat(&log).model(), Some("m2"));
        assert_eq!(chat(&log).messages.len(), 2);
        let rewound = chat(&format!("{log}{}\n", r#"{"$rewindTo":"2"}"#));
        assert_eq!((rewound.prompt().as_deref(), rewound.model()), (Some("first"), None));
        assert_eq!(chat(&format!("{log}{}\n", r#"{"$rewindTo":"?"}"#)).prompt(), None);
        let set =
            r#"{"$set":{"messages":[{"id":"3","type":"user","content":"x"}],"sessionId":"t"}}"#;
        let replaced = chat(&format!("{log}{set}\n"));
        assert_eq!(
            (replaced.prompt().as_deref(), replaced.session_id.as_deref()),
            (Some("x"), Some("t"))
        );
    }

    #[test]
    fn only_damaged_lines_are_lost() {
        let user = r#"{"id":"1","type":"user","content":"hi"}"#;
        for log in [
            format!("{HEADER}\n{user}\n{user}{}\n", r#"{"$rewindTo":"1"}"#),
            format!("garbage\n{HEADER}\n\0\0\n{user}\n{{\"id\":"),
            format!("{HEADER}\n{}\n{user}", r#"{"$set":{"messages":3,"summary":{}}}"#),
            format!("{HEADER}\n{}\n{user}", r#"{"id":7}"#),
            format!("{HEADER}\r{user}\r"),
            format!(r#"{HEADER}{}{{"$set":{{"messages":[null,7,{{}},{user}]}}}}"#, '\n'),
        ] {
            let chat = chat(&log);
            assert!(chat.has_header && chat.prompt().as_deref() == Some("hi"), "{log}");
        }
        assert!(!chat(user).has_header && !chat(&format!("{HEADER}{user}")).has_header);
        assert!(!chat("garbage").has_header);
        let odd = r#"{"sessionId":7,"projectHash":"h"}"#;
        let set = r#"{"$set":{"sessionId":"s"}}"#;
        assert!(!chat(&format!("{odd}\n{set}\n{user}")).has_header);
    }
}
