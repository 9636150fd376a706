//! What the records of a rollout say, compressed or not. Knows neither homes nor folders.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::{Kind, Timestamp};

use crate::providers::head_tail::HeadTail;
use crate::providers::record::{self, part, records, whole};
use crate::providers::{Found, Stamp, file};

/// The first record alone has 22 kB of instructions.
const SIDE: usize = 64 << 10;
/// A small file may unpack to any size; beyond this it is unreadable.
const UNPACKED: u64 = 1 << 30;
/// Unpacking may take 32 MiB of memory; what the CLI packs needs a quarter of it.
const MEMORY_LOG: u32 = 25;

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Record<'_> {
    fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.timestamp.as_deref()?)
    }
}

#[derive(Deserialize)]
struct MetaPayload<'a> {
    id: String,
    forked_from_id: Option<String>,
    #[serde(borrow)]
    history_base: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    cwd: Option<String>,
    #[serde(borrow)]
    git: Option<&'a RawValue>,
}

/// The rollout that holds the history before a fork, and how far it belongs to it.
#[derive(Clone, Deserialize)]
pub(super) struct Base {
    pub(super) thread_id: String,
    #[serde(default, rename = "end_byte_offset")]
    pub(super) end: u64,
}

#[derive(Deserialize)]
struct Git {
    branch: Option<String>,
}

#[derive(Deserialize)]
struct Context {
    cwd: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    /// The text, in versions before items.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    of: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// The `session_meta` of a rollout.
#[derive(Default)]
pub(super) struct Meta {
    pub(super) id: String,
    pub(super) base: Option<Base>,
    parent: Option<String>,
    kind: Kind,
    cwd: Option<String>,
    branch: Option<String>,
}

/// What a rollout says.
pub(super) struct Rollout {
    /// The first `session_meta`, wherever it is.
    pub(super) meta: Option<Meta>,
    /// Why the CLI would not accept the first line.
    pub(super) fault: Option<&'static str>,
    stamp: Stamp,
    created_at: Option<Timestamp>,
    last_activity: Option<Timestamp>,
    prompt: Option<String>,
    cwd: Option<String>,
    model: Option<String>,
}

/// Reads as much of a rollout as its metadata needs.
pub(super) fn open(path: &Path) -> io::Result<Rollout> {
    let stamp = Stamp::of(&fs::metadata(path)?);
    let window = if path.extension().is_some_and(|extension| extension == "zst") {
        let mut unpacked = zstd::Decoder::new(file::open(path)?.0)?;
        unpacked.window_log_max(MEMORY_LOG)?;
        HeadTail::of_stream(unpacked, 16 * SIDE, UNPACKED)?
    } else {
        HeadTail::grow(path, SIDE, is_enough, |enough| *enough)?.0
    };
    let mut rollout = Rollout {
        meta: heads(&window).find_map(|record| meta(&record)),
        fault: fault(&window),
        stamp,
        created_at: None,
        last_activity: None,
        prompt: prompt(&window),
        cwd: None,
        model: None,
    };
    rollout.created_at = heads(&window).find_map(|record| record.at());
    window.tail_reversed().any(|line| {
        let glued: Vec<Record<'_>> = records(line).collect();
        glued.iter().rev().for_each(|record| rollout.add(record));
        rollout.last_activity.is_some() && rollout.cwd.is_some() && rollout.model.is_some()
    });
    Ok(rollout)
}

impl Rollout {
    /// Its metadata; the caller adds id and verdict. `None` if nobody said anything in it.
    pub(super) fn found(self) -> Option<Found> {
        let modified = Timestamp::from_ns(self.stamp.mtime_ns);
        let title = record::title(&self.prompt?);
        let meta = self.meta.unwrap_or_default();
        let launch_dir = meta.cwd.or_else(|| self.cwd.clone()).unwrap_or_default();
        Some(Found {
            kind: meta.kind,
            cwd: self.cwd.or_else(|| Some(launch_dir.clone())).filter(|cwd| !cwd.is_empty()),
            launch_dir,
            title,
            model: self.model,
            git_branch: meta.branch,
            created_at: self.created_at.unwrap_or(modified),
            last_activity: self.last_activity.or(self.created_at).unwrap_or(modified),
            parent: meta.parent,
            ..Found::default()
        })
    }

    fn add(&mut self, record: &Record<'_>) {
        if self.last_activity.is_none() {
            self.last_activity = record.at();
        }
        if record.of == "turn_context"
            && let Some(context) = part::<Context>(record.payload)
        {
            self.cwd = self.cwd.take().or(context.cwd);
            self.model = self.model.take().or(context.model);
        }
    }
}

fn heads(window: &HeadTail) -> impl Iterator<Item = Record<'_>> {
    window.head().flat_map(records)
}

/// A title is worth a larger window, but only in a rollout that can be used.
fn is_enough(window: &HeadTail) -> bool {
    let has_lines = window.head().next().is_some() && window.tail_reversed().next().is_some();
    has_lines && (fault(window).is_some() || prompt(window).is_some())
}

/// The CLI takes a rollout only if its first line is the `session_meta`.
fn fault(window: &HeadTail) -> Option<&'static str> {
    let first = window.head().next().and_then(whole::<Record<'_>>);
    if first.as_ref().is_some_and(|record| meta(record).is_some()) {
        return None;
    }
    let follows = heads(window).any(|record| meta(&record).is_some());
    Some(if first.is_none() && follows { "first_record_broken" } else { "session_meta_missing" })
}

fn meta(record: &Record<'_>) -> Option<Meta> {
    if record.of != "session_meta" {
        return None;
    }
    let payload: MetaPayload<'_> = part(record.payload)?;
    let (kind, spawner) = kind(payload.source);
    Some(Meta {
        id: payload.id,
        base: part(payload.history_base),
        parent: payload.forked_from_id.or(spawner),
        kind,
        cwd: payload.cwd,
        branch: part::<Git>(payload.git).and_then(|git| git.branch),
    })
}

/// Who talks: `source` is a word, or an object that tells which agent started it.
fn kind(source: Option<&RawValue>) -> (Kind, Option<String>) {
    let source: serde_json::Value = part(source).unwrap_or_default();
    if source.is_object() {
        let spawner = source.pointer("/subagent/thread_spawn/parent_thread_id");
        let spawner = spawner.and_then(|id| id.as_str()).map(str::to_owned);
        return (Kind::Subagent, spawner);
    }
    let headless = matches!(source.as_str(), Some("exec" | "mcp"));
    (if headless { Kind::Headless } else { Kind::Interactive }, None)
}

/// The first thing that was asked. The messages sent to the model begin with noise about the
/// environment; the events hold only what was typed.
fn prompt(window: &HeadTail) -> Option<String> {
    let events = heads(window).filter(|record| record.of == "event_msg");
    events.filter_map(|record| part::<Event<'_>>(record.payload)).find_map(|event| {
        if event.of == "user_message" {
            return record::text(event.message);
        }
        let item = part::<Item<'_>>(event.item)?;
        if item.of == "UserMessage" { record::text(item.content) } else { None }
    })
}
