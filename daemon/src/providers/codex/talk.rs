//! The conversation in the records of a rollout, as far as a title needs it. Knows no file.
//!
//! A rollout says the same thing twice: events hold the text that was typed, and response items the
//! messages that were sent to the model, with text about the environment before them. A session may
//! have no event of a prompt at all: it was begun with a goal, a review or a picture, or by a
//! program that records none.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::rollout::Record;
use crate::providers::record::{self, part};
use crate::providers::title::{Best, Noise, Prompt};

const NOISE: Noise = Noise {
    elements: &[
        "environment_context",
        "user_instructions",
        "turn_aborted",
        "user_shell_command",
        "user_action",
        "codex_internal_context",
        "skill",
        "apps_instructions",
        "model_instructions",
        "subagent_notification",
    ],
    passages: &[
        ("# AGENTS.md instructions", "</INSTRUCTIONS>"),
        ("# Context from my IDE setup:", "## My request for Codex:"),
    ],
};

/// A part of a payload that is an event or a response item.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    /// The text, as versions without items wrote it.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    goal: Option<&'a RawValue>,
    #[serde(borrow)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Goal<'a> {
    #[serde(borrow)]
    objective: Cow<'a, str>,
}

/// The part that a record has in the conversation.
enum Part {
    /// An event with the text that was typed; `None` if it was a picture.
    Typed(Option<Prompt>),
    /// A message to the model in the user's name.
    Sent(Option<Prompt>),
    /// Anything else that a turn leaves.
    Work,
}

/// The beginning of a conversation.
#[derive(Default)]
pub(super) struct Talk {
    /// True if there is any record at all.
    pub(super) any: bool,
    /// True if there is something to continue from.
    pub(super) has_content: bool,
    typed: Best,
    sent: Best,
}

impl Talk {
    /// Reads records until the title is known.
    pub(super) fn of<'r>(records: impl Iterator<Item = Record<'r>>) -> Self {
        let mut talk = Self::default();
        for record in records {
            talk.any = true;
            match part_of(&record) {
                Some(Part::Typed(prompt)) => {
                    talk.has_content = true;
                    talk.typed.add(prompt);
                }
                Some(Part::Sent(prompt)) => {
                    talk.has_content |= prompt.is_some();
                    talk.sent.add(prompt);
                }
                Some(Part::Work) => talk.has_content = true,
                None => {}
            }
            if talk.typed.is_final() {
                break;
            }
        }
        talk
    }

    pub(super) fn title(self) -> Option<String> {
        self.typed.title().or(self.sent.title())
    }
}

/// True if a record has a part in the conversation.
pub(super) fn is_part(record: &Record<'_>) -> bool {
    match part_of(record) {
        Some(Part::Sent(prompt)) => prompt.is_some(),
        part => part.is_some(),
    }
}

/// True if a record is sent to the model when the session goes on, and is not of the CLI itself.
pub(super) fn is_sent(record: &Record<'_>) -> bool {
    if record.of == "compacted" {
        return true;
    }
    let item = part::<Payload<'_>>(record.payload).filter(|_| record.of == "response_item");
    let Some(item) = item else { return false };
    match (&*item.of, item.role.as_deref()) {
        ("message", Some("user")) => text(item.content).is_some() || has_picture(item.content),
        ("message", Some("assistant")) => record::text(item.content).is_some(),
        ("message", _) => false,
        _ => true,
    }
}

/// True if a message has a block without a text.
fn has_picture(content: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Block<'a> {
        #[serde(borrow, rename = "type")]
        of: Cow<'a, str>,
    }
    let blocks = part::<Vec<Block<'_>>>(content).unwrap_or_default();
    blocks.iter().any(|block| block.of == "input_image")
}

/// Returns the prompt in a record.
pub(super) fn prompt(record: &Record<'_>) -> Option<Prompt> {
    match part_of(record)? {
        Part::Typed(prompt) | Part::Sent(prompt) => prompt,
        Part::Work => None,
    }
}

fn part_of(record: &Record<'_>) -> Option<Part> {
    match &*record.of {
        "event_msg" => of_event(&part(record.payload)?),
        "response_item" => {
            let item: Payload<'_> = part(record.payload)?;
            of_item(&item.of, item.role.as_deref(), item.content)
        }
        of => of_item(of, record.role.as_deref(), record.content),
    }
}

fn of_event(event: &Payload<'_>) -> Option<Part> {
    match &*event.of {
        "user_message" => Some(Part::Typed(text(event.message))),
        "thread_goal_updated" => {
            let goal = part::<Goal<'_>>(event.goal)?;
            Some(Part::Typed(NOISE.prompt(&goal.objective)))
        }
        "agent_message" | "entered_review_mode" | "exited_review_mode" => Some(Part::Work),
        _ => {
            let item = part::<Item<'_>>(event.item)?;
            let is_prompt = item.of == "UserMessage";
            Some(if is_prompt { Part::Typed(text(item.content)) } else { Part::Work })
        }
    }
}

/// Returns the part of a response item, which in old versions is a record by itself.
fn of_item(of: &str, role: Option<&str>, content: Option<&RawValue>) -> Option<Part> {
    match (of, role) {
        ("message", Some("user")) => Some(Part::Sent(text(content))),
        ("message", Some("assistant")) | ("reasoning" | "function_call" | "compacted", _) => {
            Some(Part::Work)
        }
        _ => None,
    }
}

fn text(content: Option<&RawValue>) -> Option<Prompt> {
    record::texts(content).iter().find_map(|text| NOISE.prompt(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(lines: &str) -> Talk {
        Talk::of(lines.lines().flat_map(|line| record::records(line.as_bytes())))
    }

    fn sent(text: &str) -> String {
        let content = serde_json::json!([{ "type": "input_text", "text": text }]);
        let item = serde_json::json!({ "type": "message", "role": "user", "content": content });
        serde_json::json!({ "type": "response_item", "payload": item }).to_string() + "\n"
    }

    fn event(of: &str, name: &str, value: serde_json::Value) -> String {
        let event = serde_json::json!({ "type": of, name: value });
        serde_json::json!({ "type": "event_msg", "payload": event }).to_string() + "\n"
    }

    #[test]
    fn title_is_what_was_typed_first() {
        let environment = sent("<environment_context>\n<cwd>/x</cwd>\n</environment_context>");
        let agents = sent("# AGENTS.md instructions for /x\n<INSTRUCTIONS>\na\n</INSTRUCTIONS>");
        let typed = event("user_message", "message", "typed".into());
        let goal = event("thread_goal_updated", "goal", serde_json::json!({ "objective": "aim" }));
        let ide =
            "# Context from my IDE setup:\n## Active file: a\n## My request for Codex:\nfix a";
        for (records, title) in [
            (format!("{environment}{agents}{}{typed}", sent("typed")), Some("typed")),
            (format!("{goal}{environment}{typed}"), Some("aim")),
            (format!("{environment}{agents}{}", sent("only sent")), Some("only sent")),
            (event("user_message", "message", ide.into()), Some("fix a")),
            (event("user_message", "message", "".into()), None),
            (event("entered_review_mode", "user_facing_hint", "changes".into()), None),
        ] {
            let talk = talk(&records);
            assert!(talk.has_content, "{records}");
            assert_eq!(talk.title().as_deref(), title, "{records}");
        }
        let started = talk(&(environment + &agents));
        assert!(started.any && !started.has_content && started.title().is_none());
    }

    #[test]
    fn items_of_old_versions_are_records_by_themselves() {
        let old = r#"{"id":"1","timestamp":"2025-08-20T10:00:00Z","instructions":null}
{"type":"message","role":"user","content":[{"type":"input_text","text":"old words"}]}"#;
        assert_eq!(talk(old).title().as_deref(), Some("old words"));
    }
}
