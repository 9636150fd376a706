//! Finding, reading and checking the built-in provider's transcripts.

use std::path::{Path, PathBuf};

use sessd_proto::{Facts, Kind, Reason};

use super::Echo;
use super::transcript::{Record, Role};
use crate::providers::head_tail::HeadTail;
use crate::providers::{Bound, Discovery, Found, Home, Listing, Unreadable, Verdict};
use crate::providers::{listing, record};

/// Bytes that are read from each end of a transcript.
const SIDE_BYTES: usize = 64 * 1024;

impl Discovery for Echo {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        vec![home.path.clone()]
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let mut listed = Listing::default();
        listed.walk(listing::root(&home.path)?, 1, |name| name.ends_with(".jsonl"));
        Ok(listed)
    }

    fn read(&self, _home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        let parse = |line: &[u8]| record::whole::<Record>(line);
        let ends =
            |read: &HeadTail| read.head().find_map(parse).zip(read.tail_reversed().find_map(parse));
        let is_enough = |_: &HeadTail, ends: &Option<_>| ends.is_some();
        let (read, found) = HeadTail::grow(path, SIDE_BYTES, ends, is_enough).ok()?;
        let (first, last) = found?;
        let facts = Facts {
            provider_session_id: path.file_stem()?.to_str()?.to_owned(),
            kind: if first.typed { Kind::Interactive } else { Kind::Headless },
            launch_dir: first.cwd,
            cwd: Some(last.cwd),
            title: record::title(&first.text),
            last_prompt: last_prompt(&read),
            model: Some("echo".to_owned()),
            created_at: first.at,
            last_activity: last.at,
            ..Facts::default()
        };
        Some(Found { facts, verdict: Verdict::ACTIVE, ..Found::default() })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        match Path::new(&bound.location).try_exists() {
            // Its first turn has not written yet.
            _ if bound.location.is_empty() => {
                self.list(home).map_or_else(Verdict::from, |_| Verdict::of(Reason::Starting))
            }
            Ok(true) => self.read(home, &bound.location).map_or(Verdict::EMPTY, |it| it.verdict),
            _ => Verdict::of_missing(self.list(home), &bound.location),
        }
    }
}

/// Returns the last prompt, as a title.
fn last_prompt(ends: &HeadTail) -> Option<String> {
    let records = ends.tail_reversed().filter_map(record::whole::<Record>);
    let mut prompts = records.filter(|record| record.role == Role::User);
    record::title(&prompts.next()?.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_that_is_still_starting_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: Default::default() };
        let verdict = Echo.check(&home, &Bound::default());
        assert_eq!(verdict, Verdict::of(Reason::Starting));
    }
}
