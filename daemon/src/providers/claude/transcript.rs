//! Reads the records of a transcript. Knows neither homes nor folders.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::{Kind, Timestamp};

use super::names::{self, Names};
use super::prompt;
use crate::providers::head_tail::HeadTail;
use crate::providers::jsonl::{self, Summary};
use crate::providers::record::{self, part, records};
use crate::providers::scan::scan;
use crate::providers::title::{Best, Prompt};
use crate::providers::unknown::Kinds;
use crate::providers::{Found, Verdict, Version, lenient};

/// Bytes that are first read from each end: the first prompt follows attachments of some kilobytes.
const SIDE_BYTES: usize = 16 << 10;

/// Bytes of the head in which words of a person are looked for after a command without any.
const PROMPT_BYTES: usize = 64 << 10;

/// The version from which on the CLI reads records without a time.
const TIMELESS: Version = Version(2, 1, 332);

/// The records that were seen in transcripts of the versions that were tested.
pub(super) static KINDS: Kinds = Kinds::new(&[
    "agent-color",
    "agent-name",
    "agent-setting",
    "ai-title",
    "api-request",
    "api-request-blob",
    "api-request-resumed",
    "api-request-shape",
    "artifact-comment-monitor",
    "assistant",
    "atis-latch",
    "attachment",
    "bridge-session",
    "content-replacement",
    "continued-in",
    "cost-state",
    "custom-title",
    "data-flow-incomplete",
    "data-flow-records",
    "derived-from",
    "dev-mods",
    "ended-by-model",
    "file-history-delta",
    "file-history-snapshot",
    "fork-context-ref",
    "frame-link",
    "history-suppression",
    "isolation-latch",
    "last-prompt",
    "memory-mode",
    "mode",
    "observer-ref",
    "permission-mode",
    "pr-link",
    "progress",
    "prompt-snapshot",
    "prompt_snapshot",
    "queue-operation",
    "result",
    "resume-head-vouch",
    "session-owner",
    "summary",
    "system",
    "tag",
    "tools-used",
    "user",
    "worktree-state",
]);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "lenient::text")]
    pub(super) of: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    uuid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    snapshot: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    cwd: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    git_branch: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    entrypoint: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) custom_title: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) agent_name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) ai_title: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) summary: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    pub(super) last_prompt: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient::text")]
    continued_in_session_id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient::truth")]
    is_sidechain: bool,
    #[serde(default, deserialize_with = "lenient::truth")]
    is_meta: bool,
    #[serde(default, deserialize_with = "lenient::truth")]
    is_compact_summary: bool,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Record<'a> {
    fn is_user(&self) -> bool {
        self.of.as_deref() == Some("user")
    }

    fn is_message(&self) -> bool {
        self.is_user() || self.of.as_deref() == Some("assistant")
    }

    fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.timestamp.as_deref()?)
    }

    fn text(&self) -> Option<String> {
        record::text(part::<Message<'a>>(self.message)?.content)
    }

    /// Returns the model that answered; `<synthetic>` marks a message of the CLI itself.
    fn model(&self) -> Option<String> {
        let model = part::<Message<'a>>(self.message)?.model?;
        (model != "<synthetic>").then(|| model.into_owned())
    }

    /// Returns what a person or a program asked; `None` for what the CLI wrote in their name.
    pub(super) fn prompt(&self) -> Option<Prompt> {
        if !self.is_user() || self.is_meta || self.is_compact_summary {
            return None;
        }
        prompt::of_message(part::<Message<'a>>(self.message)?.content)
    }

    /// Returns the kind of session that a message is from.
    fn kind(&self) -> Option<Kind> {
        let by = self.entrypoint.as_deref().unwrap_or_default();
        self.is_message().then_some(if self.is_sidechain {
            Kind::Subagent
        } else if by.starts_with("sdk") {
            Kind::Headless
        } else {
            Kind::Interactive
        })
    }
}

/// Difference of two times that were written at the same moment, in milliseconds.
const SAME_MOMENT_MS: i64 = 2_000;

/// The first message of a transcript.
pub(super) struct Opening {
    /// Its id, which it keeps in a copy.
    pub(super) uuid: String,
    pub(super) at: Timestamp,
    /// True if something before it is of a later time: it was written when the messages were
    /// copied.
    pub(super) is_copied: bool,
}

impl Opening {
    /// True if the message was clearly written before a time.
    pub(super) fn is_before(&self, at: Timestamp) -> bool {
        at.0 > self.at.0.saturating_add(SAME_MOMENT_MS)
    }
}

/// The facts in the first records.
#[derive(Default)]
struct Head {
    opening: Option<Opening>,
    /// The latest time before the first message.
    latest: Option<Timestamp>,
    created_at: Option<Timestamp>,
    launch_dir: Option<String>,
    prompt: Best,
    /// The kind of the first message.
    kind: Option<Kind>,
}

impl Head {
    fn of(ends: &HeadTail) -> Self {
        let mut head = Self::default();
        for record in ends.head().flat_map(records::<Record<'_>>) {
            KINDS.note(record.of.as_deref().unwrap_or_default());
            head.open(&record);
            head.created_at = head.created_at.or_else(|| record.at());
            head.launch_dir = head.launch_dir.or_else(|| record.cwd.as_deref().map(str::to_owned));
            if !head.prompt.is_final() {
                head.prompt.add(record.prompt());
            }
            head.kind = head.kind.or_else(|| record.kind());
            if head.prompt.is_final() && head.has_start() {
                break;
            }
        }
        head
    }

    /// Notes the first message, and the times before it.
    fn open(&mut self, record: &Record<'_>) {
        #[derive(Deserialize)]
        struct Snapshot<'a> {
            #[serde(borrow)]
            timestamp: Cow<'a, str>,
        }
        if self.opening.is_some() {
            return;
        }
        let snapshot = || Timestamp::parse(&part::<Snapshot<'_>>(record.snapshot)?.timestamp);
        let at = record.at().or_else(snapshot);
        match (&record.uuid, at) {
            (Some(uuid), Some(at)) if record.is_message() => {
                let mut opening = Opening { uuid: uuid.to_string(), at, is_copied: false };
                opening.is_copied = self.latest.is_some_and(|latest| opening.is_before(latest));
                self.opening = Some(opening);
            }
            _ => self.latest = self.latest.max(at),
        }
    }

    fn has_start(&self) -> bool {
        self.launch_dir.is_some() && self.created_at.is_some()
    }

    /// True unless a longer head may have a better title.
    fn is_enough(&self, bytes: usize) -> bool {
        let has_substitute = self.prompt.is_some() && bytes >= PROMPT_BYTES;
        self.has_start() && (self.prompt.is_final() || has_substitute)
    }
}

/// The facts in the last records.
#[derive(Default)]
struct Tail {
    last_activity: Option<Timestamp>,
    /// The directory of the last message.
    cwd: Option<String>,
    git_branch: Option<String>,
    model: Option<String>,
    names: Names,
    /// The kind of the last message.
    kind: Option<Kind>,
    /// The session in which the conversation goes on, unless a message follows.
    continued_in: Option<String>,
}

impl Tail {
    fn of(ends: &HeadTail) -> Self {
        let mut tail = Self::default();
        jsonl::each_last(ends, is_late, |record: &Record<'_>| {
            KINDS.note(record.of.as_deref().unwrap_or_default());
            tail.add(record);
            tail.is_complete()
        });
        tail
    }

    fn is_complete(&self) -> bool {
        self.last_activity.is_some() && self.kind.is_some() && self.model.is_some()
    }

    fn add(&mut self, record: &Record<'_>) {
        if self.last_activity.is_none() {
            self.last_activity = record.at();
        }
        self.names.add(record);
        if self.kind.is_none() && self.continued_in.is_none() {
            self.continued_in = record.continued_in_session_id.as_deref().map(str::to_owned);
        }
        if !record.is_message() {
            return;
        }
        if self.model.is_none() {
            self.model = record.model();
        }
        if self.kind.is_none() {
            self.kind = record.kind();
            self.cwd = record.cwd.as_deref().map(str::to_owned);
            self.git_branch = record.git_branch.as_deref().map(str::to_owned);
        }
    }
}

/// True for a line that may have a title or a prompt.
fn is_late(line: &[u8]) -> bool {
    jsonl::has_any(line, names::KEYS)
        || (jsonl::has_any(line, &[b"\"user\""]) && !jsonl::has_any(line, &[b"\"tool_result\""]))
}

/// The relations of a conversation to others, as its transcript shows them.
pub(super) struct Lineage {
    pub(super) opening: Option<Opening>,
    /// The session in which the conversation goes on.
    pub(super) continued_in: Option<String>,
}

/// Returns the lineage of a transcript, as far as its first and its last records show it.
pub(super) fn lineage(path: &Path) -> Option<Lineage> {
    let ends = HeadTail::read(path, SIDE_BYTES).ok()?;
    let opening = Head::of(&ends).opening;
    Some(Lineage { opening, continued_in: Tail::of(&ends).continued_in })
}

/// Returns the metadata of a transcript, without the facts in its path, and its lineage.
pub(super) fn read(path: &Path) -> Option<(Found, Lineage)> {
    let parse = |ends: &HeadTail| (Head::of(ends), Tail::of(ends));
    let enough = |ends: &HeadTail, (head, tail): &(Head, Tail)| {
        head.is_enough(ends.head_bytes()) && tail.kind.is_some()
    };
    let (ends, (head, mut tail)) = HeadTail::grow(path, SIDE_BYTES, parse, enough).ok()?;
    tail.names.complete(&ends, path);
    // Listed all the same: a transcript whose messages are too long to be read is not empty.
    let unseen = (ends.is_too_long() && head.kind.is_none()).then_some(Kind::Interactive);
    let first = head.kind.or(unseen)?;
    let last = tail.kind.unwrap_or(first);
    let summary = Summary {
        launch_dir: head.launch_dir,
        cwd: tail.cwd,
        last_prompt: tail.names.last_prompt(),
        title: tail.names.title(),
        prompt: head.prompt.title(),
        model: tail.model,
        git_branch: tail.git_branch.filter(|branch| !branch.is_empty()),
        created_at: head.created_at,
        last_activity: tail.last_activity,
    };
    let mut found = summary.found(ends.stamp());
    // Interactive if a person took part at either end.
    found.facts.kind = if first == last { first } else { Kind::Interactive };
    found.verdict = judge(path, &ends).unwrap_or(Verdict::UNREADABLE);
    let lineage = Lineage { opening: head.opening, continued_in: tail.continued_in };
    Some((found, lineage))
}

/// Returns the verdict. One message with text is enough: damaged lines around it cost the CLI some
/// context, nothing more. Without any the CLI refuses, or starts without context.
pub(super) fn check(path: &Path) -> io::Result<Verdict> {
    judge(path, &HeadTail::read(path, SIDE_BYTES)?)
}

fn judge(path: &Path, ends: &HeadTail) -> io::Result<Verdict> {
    let mut found = Words::None;
    // A record with a time ends the search.
    let mut add = |line: &[u8]| {
        found = found.max(words(line));
        found != Words::Dated
    };
    let goes_on = ends.head().all(&mut add) && ends.tail_reversed().all(&mut add);
    if goes_on && !ends.is_whole() {
        scan(path, add)?;
    }
    Ok(match found {
        Words::Dated => Verdict::ACTIVE,
        Words::Undated => Verdict { lifted_by: Some(TIMELESS), ..Verdict::EMPTY },
        Words::None => Verdict::EMPTY,
    })
}

/// The words of a line that the CLI continues from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Words {
    None,
    /// In a record without a time.
    Undated,
    Dated,
}

/// The CLI reads the first record of a line and ignores any that are glued to it.
fn words(line: &[u8]) -> Words {
    let Some(record) = records::<Record<'_>>(line).next() else { return Words::None };
    if !record.is_message() || record.is_sidechain || record.text().is_none() {
        return Words::None;
    }
    if record.timestamp.is_some() { Words::Dated } else { Words::Undated }
}
