//! The names that users gave to sessions: one file in the home, to which the CLI appends. The last
//! line of a session counts. Renaming changes no rollout, so a name is part of a rollout's stamp.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use serde::Deserialize;

use crate::providers::head_tail::HeadTail;
use crate::providers::record::{self, records};
use crate::providers::{Home, Stamp};

/// Bytes that are read from each end of the file; there are some 150 a name.
const SIDE_BYTES: usize = 2 << 20;

/// The bits of a time that a name changes: it stays true to about a millisecond.
const NAME_BITS: u64 = (1 << 20) - 1;

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    #[serde(borrow)]
    thread_name: Option<Cow<'a, str>>,
}

/// Returns the path of the file with the names.
pub(super) fn path(home: &Home) -> PathBuf {
    home.path.join("session_index.jsonl")
}

/// The names by the ids of their sessions.
#[derive(Default)]
pub(super) struct Names(HashMap<String, String>);

impl Names {
    /// Reads the names; none if the file does not exist or cannot be read.
    pub(super) fn read(home: &Home) -> Self {
        let ends = HeadTail::read(&path(home), SIDE_BYTES).unwrap_or_default();
        let tail: Vec<&[u8]> = ends.tail_reversed().collect();
        // Of a small file the head is the tail.
        let head = ends.head().filter(|_| !ends.is_whole());
        let mut names = HashMap::new();
        for line in head.chain(tail.into_iter().rev()) {
            for Line { id, thread_name } in records(line) {
                match thread_name.as_deref().and_then(record::title) {
                    Some(name) => names.insert(id, name),
                    None => names.remove(&id),
                };
            }
        }
        Self(names)
    }

    /// Returns the name of a session.
    pub(super) fn of(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// Returns the stamp of a session's rollout, which changes with its name.
    pub(super) fn stamp(&self, id: Option<&str>, rollout: Stamp) -> Stamp {
        let Some(name) = id.and_then(|id| self.of(id)) else { return rollout };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let bits = (hasher.finish() & NAME_BITS).cast_signed();
        Stamp { mtime_ns: rollout.mtime_ns ^ bits, ..rollout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_name_counts_and_changes_the_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let stamp = Stamp { size: 1, mtime_ns: 1_767_323_045_000_000_000, inode: 3 };
        assert_eq!(Names::read(&home).stamp(Some("a"), stamp), stamp);
        let line = |name: &str| format!("{{\"id\":\"a\",\"thread_name\":\"{name}\"}}\n");
        let read = |text: String| {
            std::fs::write(path(&home), text).unwrap();
            Names::read(&home)
        };
        let first = read(line("one") + "garbage\n");
        let second = read(line("one") + &line("two \\u202e"));
        assert_eq!(
            (first.of("a"), second.of("a"), second.of("b")),
            (Some("one"), Some("two"), None)
        );
        let [one, two] = [&first, &second].map(|names| names.stamp(Some("a"), stamp));
        assert!(one != two && one != stamp && first.stamp(Some("b"), stamp) == stamp);
        assert!((two.mtime_ns - stamp.mtime_ns).abs() < 2_000_000);
        assert_eq!(read(line("one") + &line("")).of("a"), None);
    }
}
