//! The common part of the JSONL transcripts of several CLIs: the last records are read until
//! enough is known, and metadata is made of head and tail. Knows no provider.

use memchr::memmem;
use serde::Deserialize;
use sessd_proto::{Facts, Timestamp};

use super::head_tail::HeadTail;
use super::record::{self, records};
use super::{Found, Stamp};

/// Passes the records at the end to `add`, last one first, until it returns true: enough is known.
/// From then on only lines for which `is_late` is true are parsed: those with a title or a prompt,
/// which may be anywhere in the tail.
pub(super) fn each_last<'a, T: Deserialize<'a>>(
    ends: &'a HeadTail,
    is_late: impl Fn(&[u8]) -> bool,
    mut add: impl FnMut(&T) -> bool,
) {
    let mut is_enough = false;
    for line in ends.tail_reversed() {
        if is_enough && !is_late(line) {
            continue;
        }
        let glued: Vec<T> = records(line).collect();
        glued.iter().rev().for_each(|record| is_enough = add(record));
    }
}

/// True if a line contains one of these texts.
pub(super) fn has_any(line: &[u8], texts: &[&[u8]]) -> bool {
    texts.iter().any(|text| memmem::find(line, text).is_some())
}

/// The facts in the head and the tail of a transcript.
#[derive(Default)]
pub(super) struct Summary {
    /// The directory of the first record.
    pub(super) launch_dir: Option<String>,
    /// The directory of the last record.
    pub(super) cwd: Option<String>,
    /// The title that the user or the CLI gave it.
    pub(super) title: Option<String>,
    /// The first prompt, as a title.
    pub(super) prompt: Option<String>,
    /// The last prompt, as a title.
    pub(super) last_prompt: Option<String>,
    /// The model that answered last.
    pub(super) model: Option<String>,
    /// The git branch of the last record.
    pub(super) git_branch: Option<String>,
    /// Time of the first record.
    pub(super) created_at: Option<Timestamp>,
    /// Time of the last record.
    pub(super) last_activity: Option<Timestamp>,
}

impl Summary {
    /// Makes the metadata of a session, with substitutes for what is missing: the first prompt for
    /// the title, the launch directory for the last one, the file's time for those of records.
    pub(super) fn found(self, file: Stamp) -> Found {
        let modified = Timestamp::from_ns(file.mtime_ns);
        let launch_dir = self.launch_dir.unwrap_or_default();
        let facts = Facts {
            cwd: self.cwd.or_else(|| Some(launch_dir.clone())).filter(|cwd| !cwd.is_empty()),
            launch_dir,
            title: self.title.or(self.prompt),
            last_prompt: self.last_prompt,
            model: self.model.as_deref().and_then(record::title),
            git_branch: self.git_branch.as_deref().and_then(record::title),
            created_at: self.created_at.unwrap_or(modified),
            last_activity: self.last_activity.or(self.created_at).unwrap_or(modified),
            ..Facts::default()
        };
        Found { facts, ..Found::default() }
    }
}
