//! Reads the records of a rollout, compressed or not. Knows neither homes nor folders.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::{Kind, Reason, Timestamp};

use super::talk::{self, Talk};
use crate::providers::head_tail::HeadTail;
use crate::providers::jsonl::Summary;
use crate::providers::record::{part, records, whole};
use crate::providers::title::Best;
use crate::providers::unknown::Kinds;
use crate::providers::{Found, Stamp, file};

/// Bytes that are first read from each end; the first record alone has 22 kB of instructions.
const SIDE_BYTES: usize = 64 << 10;
/// A small file may unpack to any size; beyond this it is unreadable.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// Memory for unpacking, as a power of two: 32 MiB. Files that the CLI packs need a quarter of it.
const MEMORY_LOG_MAX: u32 = 25;

/// The records that were seen in rollouts of the versions that were tested.
pub(super) static KINDS: Kinds = Kinds::new(&[
    "compacted",
    "dynamic_tools_updated",
    "event_msg",
    "inter_agent_communication",
    "inter_agent_communication_metadata",
    "response_item",
    "session_meta",
    "token_usage_record",
    "turn_context",
    "world_state",
]);

#[derive(Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    /// Missing in the first line of versions without `session_meta`.
    #[serde(borrow, rename = "type", default)]
    pub(super) of: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) payload: Option<&'a RawValue>,
    /// Of an item that is a line by itself, in versions without `payload`.
    #[serde(borrow)]
    pub(super) role: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
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
    model_provider: Option<String>,
    #[serde(borrow)]
    git: Option<&'a RawValue>,
}

/// The rollout with the history before a fork.
#[derive(Clone, Deserialize)]
pub(super) struct Base {
    pub(super) thread_id: String,
    /// The length of that history, in unpacked bytes.
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

/// The `session_meta` of a rollout.
#[derive(Default)]
pub(super) struct Meta {
    pub(super) id: String,
    pub(super) base: Option<Base>,
    /// The service that was asked for a model.
    pub(super) model_provider: Option<String>,
    parent: Option<String>,
    kind: Kind,
    cwd: Option<String>,
    branch: Option<String>,
}

/// The metadata of a rollout.
pub(super) struct Rollout {
    /// The first `session_meta`, wherever it is.
    pub(super) meta: Option<Meta>,
    /// The reason for which the CLI would refuse the first line.
    pub(super) fault: Option<Reason>,
    stamp: Stamp,
    created_at: Option<Timestamp>,
    last_activity: Option<Timestamp>,
    talk: Talk,
    last_prompt: Best,
    cwd: Option<String>,
    model: Option<String>,
}

/// Reads as much of a rollout as its metadata needs.
pub(super) fn open(path: &Path) -> io::Result<Rollout> {
    let stamp = Stamp::of(&fs::metadata(path)?);
    let ends = ends(path, is_enough)?;
    let mut rollout = Rollout {
        meta: heads(&ends).find_map(|record| meta(&record)),
        fault: fault(&ends),
        stamp,
        created_at: None,
        last_activity: None,
        talk: Talk::of(heads(&ends)),
        last_prompt: Best::default(),
        cwd: None,
        model: None,
    };
    rollout.created_at = heads(&ends).find_map(|record| record.at());
    ends.tail_reversed().any(|line| {
        let glued: Vec<Record<'_>> = records(line).collect();
        glued.iter().rev().for_each(|record| rollout.add(record));
        let has_place = rollout.cwd.is_some() && rollout.model.is_some();
        rollout.last_activity.is_some() && has_place && rollout.last_prompt.is_final()
    });
    Ok(rollout)
}

/// Returns why the CLI would refuse the first line of a rollout, and what it was forked from.
pub(super) fn origin(path: &Path) -> io::Result<(Option<Reason>, Option<Base>)> {
    let ends = ends(path, |ends| ends.head().next().is_some())?;
    let base = heads(&ends).find_map(|record| meta(&record)).and_then(|meta| meta.base);
    Ok((fault(&ends), base))
}

fn ends(path: &Path, is_enough: fn(&HeadTail) -> bool) -> io::Result<HeadTail> {
    if path.extension().is_none_or(|extension| extension != "zst") {
        return Ok(HeadTail::grow(path, SIDE_BYTES, is_enough, |_, enough| *enough)?.0);
    }
    let mut unpacked = zstd::Decoder::new(file::open(path)?.0)?;
    unpacked.window_log_max(MEMORY_LOG_MAX)?;
    HeadTail::of_stream(unpacked, 16 * SIDE_BYTES, UNPACKED_BYTES_MAX)
}

impl Rollout {
    /// Returns the session's metadata without id and verdict. `None` if there is nothing to
    /// continue from, and nothing that was damaged either.
    pub(super) fn found(self) -> Option<Found> {
        let is_unreadable = self.fault == Some(Reason::TranscriptUnreadable);
        let is_damaged = is_unreadable || (self.fault.is_some() && self.talk.any);
        if !self.talk.has_content && !is_damaged {
            return None;
        }
        let meta = self.meta.unwrap_or_default();
        let summary = Summary {
            launch_dir: meta.cwd.or_else(|| self.cwd.clone()),
            cwd: self.cwd,
            title: None,
            prompt: self.talk.title(),
            last_prompt: self.last_prompt.title(),
            model: self.model,
            git_branch: meta.branch,
            created_at: self.created_at,
            last_activity: self.last_activity,
        };
        let mut found = summary.found(self.stamp);
        found.facts.kind = meta.kind;
        Some(Found { parent: meta.parent, ..found })
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
        if !self.last_prompt.is_final() {
            self.last_prompt.add(talk::prompt(record));
        }
    }
}

/// Returns the service that the session began with, from the head of its rollout alone.
pub(super) fn model_provider(path: &Path) -> Option<String> {
    let ends = HeadTail::read(path, SIDE_BYTES).ok()?;
    heads(&ends).find_map(|record| meta(&record))?.model_provider
}

fn heads(ends: &HeadTail) -> impl Iterator<Item = Record<'_>> {
    ends.head().flat_map(records).inspect(|record: &Record<'_>| KINDS.note(&record.of))
}

/// True unless more has to be read: a title is worth it, but only in a rollout that can be used.
fn is_enough(ends: &HeadTail) -> bool {
    let has_lines = ends.head().next().is_some() && ends.tail_reversed().next().is_some();
    has_lines && (fault(ends).is_some() || Talk::of(heads(ends)).has_content)
}

/// Returns why the CLI would refuse the rollout: its first line must be the `session_meta`.
fn fault(ends: &HeadTail) -> Option<Reason> {
    let first = ends.head().next().filter(|line| ends.is_utf8() || !has_replacement(line));
    let first = first.and_then(whole::<Record<'_>>);
    if first.as_ref().is_some_and(|record| meta(record).is_some()) {
        return None;
    }
    if ends.is_too_long() {
        return Some(Reason::TranscriptUnreadable);
    }
    let follows = heads(ends).any(|record| meta(&record).is_some());
    Some(match first.is_none() && follows {
        true => Reason::FirstRecordBroken,
        false => Reason::SessionMetaMissing,
    })
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
        model_provider: payload.model_provider,
        parent: payload.forked_from_id.or(spawner),
        kind,
        cwd: payload.cwd,
        branch: part::<Git>(payload.git).and_then(|git| git.branch),
    })
}

/// Returns the kind of session and, of a subagent's, the session that started it. `source` is a
/// word, or for a subagent an object.
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

/// True if bytes of a line were not UTF-8, which the CLI refuses.
fn has_replacement(line: &[u8]) -> bool {
    memchr::memmem::find(line, "\u{fffd}".as_bytes()).is_some()
}
