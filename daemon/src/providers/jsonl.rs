//! The common part of the JSONL transcripts of several CLIs: the last records are read until
//! enough is known, and metadata is made of head and tail. Knows no provider.

use memchr::memmem;
use serde::Deserialize;
use sessd_proto::{Facts, Timestamp};

use super::head_tail::HeadTail;
use super::record::{self, records};
use super::{Found, Stamp};

/// Passes the records at the end to `add`, last one first, until it returns true: enough is known
/// but perhaps the title. From then on only lines with the key of a title are parsed, which may be
/// anywhere in the tail.
pub(super) fn each_last<'a, T: Deserialize<'a>>(
    ends: &'a HeadTail,
    title_key: &[u8],
    mut add: impl FnMut(&T) -> bool,
) {
    let has_title = ends.tail_contains(title_key);
    let mut is_enough = false;
    for line in ends.tail_reversed() {
        if is_enough && !has_title {
            break;
        }
        if is_enough && memmem::find(line, title_key).is_none() {
            continue;
        }
        let glued: Vec<T> = records(line).collect();
        glued.iter().rev().for_each(|record| is_enough = add(record));
    }
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
    /// The first prompt.
    pub(super) prompt: Option<String>,
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
            title: self.title.or_else(|| record::title(&self.prompt?)),
            model: self.model,
            git_branch: self.git_branch,
            created_at: self.created_at.unwrap_or(modified),
            last_activity: self.last_activity.or(self.created_at).unwrap_or(modified),
            ..Facts::default()
        };
        Found { facts, ..Found::default() }
    }
}
