//! Reads the records of a rollout, compressed or not. Knows neither homes nor folders.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessd_proto::{Kind, Reason, Timestamp};

use super::format::{self, Format};
use super::talk::{self, Talk};
use crate::providers::head_tail::HeadTail;
use crate::providers::jsonl::{Summary, has_any};
use crate::providers::record::{part, records};
use crate::providers::scan;
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
    model_provider: Option<String>,
    parent: Option<String>,
    kind: Kind,
    cwd: Option<String>,
    branch: Option<String>,
}

/// The metadata of a rollout.
pub(super) struct Rollout {
    /// The first `session_meta`, wherever it is.
    pub(super) meta: Option<Meta>,
    /// The service that is asked for a model.
    pub(super) service: Option<String>,
    pub(super) format: Format,
    /// True if there was no more to read.
    is_whole: bool,
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
    let is_packed = is_packed(path);
    let mut rollout = Rollout {
        meta: heads(&ends).find_map(|record| meta(&record.of, record.payload)),
        service: None,
        format: Format::of(&ends),
        is_whole: ends.is_whole() || is_packed,
        stamp,
        created_at: None,
        last_activity: None,
        talk: Talk::of(heads(&ends)),
        last_prompt: Best::default(),
        cwd: None,
        model: None,
    };
    rollout.service = service(&ends, rollout.meta.as_ref());
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
    let meta = heads(&ends).find_map(|record| meta(&record.of, record.payload));
    Ok((Format::of(&ends).fault, meta.and_then(|meta| meta.base)))
}

fn ends(path: &Path, is_enough: fn(&HeadTail) -> bool) -> io::Result<HeadTail> {
    if !is_packed(path) {
        return Ok(HeadTail::grow(path, SIDE_BYTES, is_enough, |_, enough| *enough)?.0);
    }
    let mut unpacked = zstd::Decoder::new(file::open(path)?.0)?;
    unpacked.window_log_max(MEMORY_LOG_MAX)?;
    HeadTail::of_stream(unpacked, 16 * SIDE_BYTES, UNPACKED_BYTES_MAX)
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

impl Rollout {
    /// Reads the part of a long rollout that was not read yet, as far as the verdict needs it: up
    /// to something to continue from, and in search of bytes that are not text.
    pub(super) fn read_on(&mut self, path: &Path, limit: u64) -> io::Result<()> {
        if self.is_whole {
            return Ok(());
        }
        let Format { is_numbered, has_context, .. } = self.format;
        if !has_context {
            scan::scan(path, |line| {
                self.format.has_context = format::has_context(line, is_numbered);
                !self.format.has_context
            })?;
        }
        self.is_whole = true;
        if self.format.is_text {
            self.format.is_text = scan::is_text(path, limit)?;
        }
        Ok(())
    }

    /// True unless the whole rollout was read and has nothing to continue from.
    pub(super) fn has_context(&self) -> bool {
        self.format.has_context || !self.is_whole
    }

    /// Returns the session's metadata without id and verdict. `None` if there is nothing to
    /// continue from, and nothing that was damaged either.
    pub(super) fn found(self) -> Option<Found> {
        let is_unreadable = self.format.fault == Some(Reason::TranscriptUnreadable);
        let is_damaged = is_unreadable || (self.format.fault.is_some() && self.talk.any);
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

/// Returns the service of the last settings, which a rollout repeats with every turn, else that of
/// its first record.
fn service(ends: &HeadTail, meta: Option<&Meta>) -> Option<String> {
    #[derive(Deserialize)]
    struct Event {
        thread_settings: Settings,
    }
    #[derive(Deserialize)]
    struct Settings {
        model_provider_id: String,
    }
    let applied = |line| {
        let record = records::<Record<'_>>(line).next()?;
        Some(part::<Event>(record.payload)?.thread_settings.model_provider_id)
    };
    let is_settings = |line: &&[u8]| has_any(line, &[b"\"model_provider_id\""]);
    let last = ends.tail_reversed().filter(is_settings).find_map(applied);
    last.or_else(|| meta?.model_provider.clone())
}

pub(super) fn heads(ends: &HeadTail) -> impl Iterator<Item = Record<'_>> {
    ends.head().flat_map(records).inspect(|record: &Record<'_>| KINDS.note(&record.of))
}

/// True unless more has to be read: a title is worth it, but only in a rollout that can be used.
fn is_enough(ends: &HeadTail) -> bool {
    let has_lines = ends.head().next().is_some() && ends.tail_reversed().next().is_some();
    has_lines && (Format::of(ends).fault.is_some() || Talk::of(heads(ends)).has_content)
}

/// Returns the description of the session in a record.
pub(super) fn meta(of: &str, payload: Option<&RawValue>) -> Option<Meta> {
    if of != "session_meta" {
        return None;
    }
    let payload: MetaPayload<'_> = part(payload)?;
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
