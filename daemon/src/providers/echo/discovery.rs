//! Finding, reading and checking the built-in provider's transcripts.

use std::path::{Path, PathBuf};

use sessd_proto::{Facts, Kind, Reason};

use super::Echo;
use super::transcript::Record;
use crate::providers::head_tail::HeadTail;
use crate::providers::{Bound, Discovery, Found, Home, Listed, Unreadable, Verdict};
use crate::providers::{listing, record};

/// Bytes that are read from each end of a transcript.
const SIDE_BYTES: usize = 64 * 1024;

impl Discovery for Echo {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        vec![home.path.clone()]
    }

    fn list(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut listed = Vec::new();
        let is_transcript = |name: &str| name.ends_with(".jsonl");
        listing::walk(listing::root(&home.path)?, 1, is_transcript, &mut listed)?;
        Ok(listed)
    }

    fn read(&self, _home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        let read = HeadTail::read(path, SIDE_BYTES).ok()?;
        let parse = |line: &[u8]| record::whole::<Record>(line);
        let first = read.head().find_map(parse)?;
        let last = read.tail_reversed().find_map(parse)?;
        let facts = Facts {
            provider_session_id: path.file_stem()?.to_str()?.to_owned(),
            kind: if first.typed { Kind::Interactive } else { Kind::Headless },
            launch_dir: first.cwd,
            cwd: Some(last.cwd),
            title: record::title(&first.text),
            model: Some("echo".to_owned()),
            created_at: first.at,
            last_activity: last.at,
            ..Facts::default()
        };
        Some(Found { facts, verdict: Verdict::ACTIVE, ..Found::default() })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        match self.list(home) {
            Err(error) => error.into(),
            // Its first turn has not written yet.
            Ok(_) if bound.location.is_empty() => Verdict::of(Reason::Starting),
            Ok(_) if !Path::new(&bound.location).exists() => Verdict::EXPIRED,
            Ok(_) => self.read(home, &bound.location).map_or(Verdict::EMPTY, |found| found.verdict),
        }
    }
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
