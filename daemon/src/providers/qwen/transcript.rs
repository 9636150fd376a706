//! Reads the records of a transcript. Knows neither homes nor folders, except the name of its own.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sessd_proto::{Kind, Reason, Timestamp};

use super::{NEWER, ids};
use crate::providers::head_tail::{HeadTail, SEARCH_BYTES_MAX};
use crate::providers::jsonl::{self, Summary};
use crate::providers::lenient;
use crate::providers::munged::munged;
use crate::providers::record::{self, part, records};
use crate::providers::title::{Best, Noise, Prompt};
use crate::providers::unknown::Kinds;
use crate::providers::{Found, Verdict};

/// Bytes that are first read from each end.
const SIDE_BYTES: usize = 16 << 10;

/// A part of every record with a title.
const TITLE_KEY: &[u8] = b"\"customTitle\"";

const NOISE: Noise = Noise {
    elements: &["system-reminder", "session_context", "hook_context", "task-notification"],
    passages: &[],
};
/// The types of records, and the subtypes of those of the system, that were seen in transcripts of
/// the versions that were tested.
pub(super) static KINDS: Kinds = Kinds::new(&[
    "agent_bootstrap",
    "agent_launch_prompt",
    "agent_retry",
    "agent_session_ready",
    "assistant",
    "at_command",
    "attribution_snapshot",
    "background_task_completed",
    "branch_checkpoint",
    "chat_compression",
    "cron",
    "custom_title",
    "file_history_snapshot",
    "goal_runtime",
    "goal_state",
    "goal_turn_end",
    "managed_session_commit_v1",
    "managed_session_event_v1",
    "managed_session_header_v1",
    "mid_turn_user_message",
    "notification",
    "omni_recall",
    "parent_session",
    "realtime_message",
    "rewind",
    "session_artifact_event",
    "session_artifact_snapshot",
    "session_model",
    "session_source",
    "session_sources_snapshot",
    "slash_command",
    "system",
    "tool_result",
    "turn_result",
    "ui_telemetry",
    "user",
]);

/// Subtypes of records that are not a part of the conversation.
const ASIDE: [&str; 6] = [
    "session_artifact_event",
    "session_artifact_snapshot",
    "session_sources_snapshot",
    "managed_session_header_v1",
    "managed_session_event_v1",
    "managed_session_commit_v1",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "lenient::text")]
    of: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    uuid: Option<Cow<'a, str>>,
    /// `None` if it is missing or of another type, `Some(None)` at the root.
    #[serde(borrow, default, deserialize_with = "parent")]
    parent_uuid: Option<Option<Cow<'a, str>>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) session_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    subtype: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    cwd: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    git_branch: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    system_payload: Option<&'a RawValue>,
    #[serde(borrow)]
    forked_from: Option<&'a RawValue>,
}

impl Record<'_> {
    fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.timestamp.as_deref()?)
    }

    fn note(&self) {
        KINDS.note(self.of.as_deref().unwrap_or_default());
        KINDS.note(self.subtype.as_deref().unwrap_or_default());
    }

    fn is_message(&self) -> bool {
        matches!(self.of.as_deref(), Some("user" | "assistant")) && self.has_parts()
    }

    fn has_parts(&self) -> bool {
        #[derive(Deserialize)]
        struct Message {
            parts: Vec<IgnoredAny>,
        }
        part::<Message>(self.message).is_some_and(|message| !message.parts.is_empty())
    }

    /// True if a version that passes over records which it does not know does not pass over this.
    pub(super) fn is_accepted(&self) -> bool {
        let has_text = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|it| !it.is_empty());
        let is_known =
            matches!(self.of.as_deref(), Some("user" | "assistant" | "tool_result" | "system"));
        let has_identity = has_text(&self.uuid) && has_text(&self.session_id);
        is_known && has_identity && self.parent_uuid.is_some()
    }

    /// True if such a version takes it for a part of the conversation.
    fn is_of_conversation(&self) -> bool {
        let is_aside = self.subtype.as_deref().is_some_and(|subtype| ASIDE.contains(&subtype));
        self.is_accepted() && !is_aside
    }

    /// Returns what a person or a program asked.
    fn prompt(&self) -> Option<Prompt> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            parts: Option<&'a RawValue>,
        }
        let is_user = self.of.as_deref() == Some("user");
        let message = part::<Message<'_>>(self.message.filter(|_| is_user))?;
        record::texts(message.parts).iter().find_map(|text| NOISE.prompt(text))
    }

    fn title(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload<'a> {
            #[serde(borrow)]
            custom_title: Cow<'a, str>,
        }
        record::title(&part::<Payload<'_>>(self.system_payload)?.custom_title)
    }

    /// Returns the session that it was copied from.
    fn parent(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Forked<'a> {
            #[serde(borrow)]
            session_id: Cow<'a, str>,
        }
        Some(part::<Forked<'_>>(self.forked_from)?.session_id.into_owned())
    }
}

/// The facts in the first records.
#[derive(Default)]
struct Head {
    /// True if there is any record at all.
    any: bool,
    created_at: Option<Timestamp>,
    /// The directory of the first record, by which the CLI finds the session.
    launch_dir: Option<String>,
    prompt: Best,
    parent: Option<String>,
}

impl Head {
    fn of(ends: &HeadTail) -> Self {
        let mut head = Self::default();
        for record in ends.head().flat_map(records::<Record<'_>>) {
            record.note();
            if !head.any {
                head.any = true;
                head.launch_dir = record.cwd.as_deref().map(str::to_owned);
                head.parent = record.parent();
            }
            head.created_at = head.created_at.or_else(|| record.at());
            if !head.prompt.is_final() {
                head.prompt.add(record.prompt());
            }
            if head.prompt.is_final() && head.created_at.is_some() {
                break;
            }
        }
        head
    }

    fn is_enough(&self) -> bool {
        self.prompt.is_some() && self.created_at.is_some()
    }
}

/// The facts in the last records.
#[derive(Default)]
struct Tail {
    last_activity: Option<Timestamp>,
    cwd: Option<String>,
    git_branch: Option<String>,
    model: Option<String>,
    title: Option<String>,
    prompt: Best,
    /// True if the chain of parents from the last record leads to a message. The chain is the
    /// context of a resume; the CLI ignores the rest of the file.
    has_context: bool,
    /// The same for a later version, which passes over records that it does not know at the end.
    has_later_context: bool,
}

impl Tail {
    fn of(ends: &HeadTail) -> Self {
        let mut tail = Self::default();
        // The next record of the chain; at first, the last record of the file.
        let mut wanted: Option<Option<String>> = None;
        let mut wanted_later: Option<Option<String>> = None;
        jsonl::each_last(ends, is_late, |record: &Record<'_>| {
            record.note();
            tail.add(record);
            tail.has_context |= is_message_of_chain(record, &mut wanted);
            if record.is_of_conversation() {
                tail.has_later_context |= is_message_of_chain(record, &mut wanted_later);
            }
            tail.is_complete()
        });
        tail
    }

    fn is_complete(&self) -> bool {
        let has_context = self.has_context && self.has_later_context;
        self.last_activity.is_some() && self.model.is_some() && has_context
    }

    fn add(&mut self, record: &Record<'_>) {
        if self.last_activity.is_none() {
            self.last_activity = record.at();
            self.cwd = record.cwd.as_deref().map(str::to_owned);
            self.git_branch = record.git_branch.as_deref().map(str::to_owned);
        }
        if self.model.is_none() {
            self.model = record.model.as_deref().map(str::to_owned);
        }
        if self.title.is_none() {
            self.title = record.title();
        }
        if !self.prompt.is_final() {
            self.prompt.add(record.prompt());
        }
    }

    /// Looks for the title some way before the tail; the CLI repeats it at times.
    fn find_title(&mut self, ends: &HeadTail, path: &Path) {
        if self.title.is_none() {
            // A file that cannot be read any more has no title.
            let _ = ends.search_back(path, SEARCH_BYTES_MAX, &[TITLE_KEY], |line| {
                self.title = records::<Record<'_>>(line).find_map(|record| record.title());
            });
        }
    }
}

/// Follows the chain of parents by one record; `wanted` is the next record of the chain. Returns
/// true if this one is in it and is a message.
fn is_message_of_chain(record: &Record<'_>, wanted: &mut Option<Option<String>>) -> bool {
    let is_next = match &*wanted {
        None => true,
        Some(uuid) => uuid.is_some() && uuid.as_deref() == record.uuid.as_deref(),
    };
    if is_next {
        let parent = record.parent_uuid.iter().flatten().next().filter(|_| record.uuid.is_some());
        *wanted = Some(parent.map(|uuid| uuid.to_string()));
    }
    is_next && record.is_message() && record.uuid.is_some()
}

/// True for a line that may have a title or a prompt.
fn is_late(line: &[u8]) -> bool {
    jsonl::has_any(line, &[TITLE_KEY, b"\"user\""])
}

fn parent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Cow<'de, str>>>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(match value.get() {
        "null" => Some(None),
        _ => part(Some(value)).map(Some),
    })
}

fn parse(path: &Path) -> io::Result<(HeadTail, Head, Tail)> {
    let parse = |ends: &HeadTail| (Head::of(ends), Tail::of(ends));
    let enough = |_: &HeadTail, (head, tail): &(Head, Tail)| head.is_enough() && tail.has_context;
    let (ends, (head, tail)) = HeadTail::grow(path, SIDE_BYTES, parse, enough)?;
    Ok((ends, head, tail))
}

/// Returns the metadata of a transcript, without the facts in its path.
pub(super) fn read(path: &Path, folder: &str) -> Option<Found> {
    let (ends, head, mut tail) = parse(path).ok()?;
    let verdict = judge(folder, &ends, &head, &tail, || Ok(ids::are_mixed(&ends))).ok()?;
    // Without a single message it is not a session, unless a message is too long to be read.
    if !head.prompt.is_some() && tail.model.is_none() && !ends.is_too_long() {
        return None;
    }
    tail.find_title(&ends, path);
    let summary = Summary {
        launch_dir: head.launch_dir,
        cwd: tail.cwd,
        title: tail.title,
        prompt: head.prompt.title(),
        last_prompt: tail.prompt.title(),
        model: tail.model,
        git_branch: tail.git_branch.filter(|branch| !branch.is_empty()),
        created_at: head.created_at,
        last_activity: tail.last_activity,
    };
    let mut found = summary.found(ends.stamp());
    found.facts.kind = Kind::Interactive;
    Some(Found { parent: head.parent, verdict, ..found })
}

pub(super) fn check(path: &Path, folder: &str) -> io::Result<Verdict> {
    let (ends, head, tail) = parse(path)?;
    let are_mixed = || match ends.is_whole() {
        true => Ok(ids::are_mixed(&ends)),
        false => ids::are_mixed_in(path),
    };
    judge(folder, &ends, &head, &tail, are_mixed)
}

/// Returns the verdict. The CLI needs the directory in the first record and a message in the chain
/// from the last one: without the first it exits, without the second it starts without context.
/// From 0.24 on it also refuses records of several sessions, and those without an identity.
fn judge(
    folder: &str,
    ends: &HeadTail,
    head: &Head,
    tail: &Tail,
    are_mixed: impl FnOnce() -> io::Result<bool>,
) -> io::Result<Verdict> {
    let reason = match &head.launch_dir {
        _ if ends.is_too_long() && !(head.any && tail.has_context) => Reason::TranscriptUnreadable,
        _ if !head.any => Reason::EmptyTranscript,
        None => Reason::FirstRecordBroken,
        Some(cwd) if munged(cwd) != folder => Reason::OtherDirectory,
        Some(_) if !tail.has_context && tail.has_later_context => {
            return Ok(Verdict { lifted_by: Some(NEWER), ..Verdict::EMPTY });
        }
        Some(_) if !(tail.has_context && tail.has_later_context) => Reason::EmptyTranscript,
        Some(_) if are_mixed()? => Reason::OtherSession,
        Some(_) => return Ok(Verdict::ACTIVE),
    };
    Ok(Verdict::of(reason))
}
