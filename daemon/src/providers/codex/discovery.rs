//! Finding, reading and checking Codex's rollouts.

use std::fs;
use std::path::{Path, PathBuf};

use sessd_proto::Reason;
use uuid::Uuid;

use super::lineage::Ancestors;
use super::model_providers::ModelProviders;
use super::names::{self, Names};
use super::rollout::{self, Meta, Rollout};
use super::{Codex, index, live};
use crate::providers::{
    Bound, Discovery, Found, Home, Listing, LiveReader, Reader, Unreadable, Verdict, listing,
};

const SESSIONS: &str = "sessions";
const ARCHIVED: &str = "archived_sessions";
const LOCKS: &str = "thread-writer-locks";

/// Bytes of a rollout that are searched for what is not text: a second or two.
const TEXT_BYTES_MAX: u64 = 1 << 30;

impl Discovery for Codex {
    /// New rollouts appear in the folder of the day, new days in the newest folders above it.
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let mut watched = vec![home.path.join(ARCHIVED), home.path.join(LOCKS), names::path(home)];
        let mut newest = Some(home.path.join(SESSIONS));
        while let Some(folder) = newest {
            newest = listing::folders(&folder).into_iter().max();
            watched.push(folder);
        }
        watched
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let mut found = Listing::default();
        // `sessions` exists from the first session on; without it nothing is known.
        found.walk(listing::root(&home.path.join(SESSIONS))?, 3, is_rollout);
        let folder = home.path.join(ARCHIVED);
        let archived = found.entries(&folder);
        found.walk(archived, 0, is_rollout);
        // Any missing session may have been archived.
        found.widen_gaps(&folder, &home.path);
        let names = Names::read(home);
        for listed in &mut found.transcripts {
            listed.stamp = names.stamp(id_in_name(&listed.location), listed.stamp);
        }
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        Rollouts::of(home).read(location)
    }

    fn reader(&self, home: &Home) -> Option<Box<dyn Reader>> {
        Some(Box::new(Rollouts::of(home)))
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        Rollouts::of(home).check(bound)
    }

    fn live(&self) -> Option<LiveReader> {
        Some(|home| live::read(&home.path.join(LOCKS)))
    }
}

/// Reads rollouts of a home, and once what they share: the names of sessions, the settings, and
/// what they were forked from.
struct Rollouts {
    home: Home,
    names: Names,
    services: ModelProviders,
    has_broken_index: bool,
    ancestors: Ancestors,
}

impl Reader for Rollouts {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| self.read(location)).collect()
    }

    fn check(&self, bound: &Bound) -> Verdict {
        // The CLI takes a malformed id as a request for a new session.
        if !is_uuid(&bound.provider_session_id) {
            return Verdict::MALFORMED_ID;
        }
        let location = match self.locate(bound) {
            Ok(Some(location)) => location,
            Ok(None) => return Verdict::of_missing(Codex.list(&self.home), &bound.location),
            Err(error) => return error.into(),
        };
        let path = Path::new(&location);
        let Ok(mut rollout) = rollout::open(path) else { return Verdict::UNREADABLE };
        if rollout.read_on(path, TEXT_BYTES_MAX).is_err() {
            return Verdict::UNREADABLE;
        }
        let meta = rollout.meta.as_ref().filter(|_| rollout.format.fault.is_none());
        if meta.is_some_and(|meta| meta.id != bound.provider_session_id) {
            return Verdict::of(Reason::OtherSession);
        }
        self.judge(&location, &rollout)
    }
}

impl Rollouts {
    fn of(home: &Home) -> Self {
        Self {
            home: home.clone(),
            names: Names::read(home),
            services: ModelProviders::read(home),
            has_broken_index: index::is_broken(home),
            ancestors: Ancestors::of(home),
        }
    }

    /// Reads head and tail only: bytes that are not text in the middle of a long rollout are left
    /// to a check, which comes before every resume and turn.
    fn read(&self, location: &str) -> Option<Found> {
        let rollout = rollout::open(Path::new(location)).ok()?;
        let verdict = self.judge(location, &rollout);
        let id = match &rollout.meta {
            Some(meta) => meta.id.clone(),
            None => id_in_name(location)?.to_owned(),
        };
        let mut found = rollout.found()?;
        if let Some(name) = self.names.of(&id) {
            found.facts.title = Some(name.to_owned());
        }
        found.facts.provider_session_id = id;
        Some(Found { verdict, ..found })
    }

    /// Finds the rollout: archiving moves it, and resuming a compressed one replaces it.
    fn locate(&self, bound: &Bound) -> Result<Option<String>, Unreadable> {
        if Path::new(&bound.location).is_file() {
            return Ok(Some(bound.location.clone()));
        }
        let rollouts = Codex.list(&self.home)?.transcripts.into_iter();
        let mut found = rollouts.map(|listed| listed.location);
        Ok(found.find(|location| id_in_name(location) == Some(&bound.provider_session_id)))
    }

    /// Applies the rules of the CLI, in its order.
    fn judge(&self, location: &str, rollout: &Rollout) -> Verdict {
        let format = &rollout.format;
        if let Some(fault) = format.fault {
            return Verdict::of(fault);
        }
        if rollout.meta.as_ref().is_some_and(|meta| !is_uuid(&meta.id)) {
            return Verdict::MALFORMED_ID;
        }
        if let Some(base) = rollout.meta.as_ref().and_then(|meta| meta.base.as_ref()) {
            match self.ancestors.fault(base) {
                Ok(None) => {}
                Ok(Some(fault)) => return Verdict::of(fault),
                Err(error) => return error.into(),
            }
        }
        if Path::new(location).starts_with(self.home.path.join(ARCHIVED)) {
            return Verdict::of(Reason::ArchivedByProvider);
        }
        if rollout.service.as_deref().is_some_and(|name| self.services.lack(name)) {
            return Verdict::of(Reason::ModelProviderMissing);
        }
        if self.has_broken_index {
            return Verdict::of(Reason::IndexBroken);
        }
        // A fork goes on from the conversation of its ancestors.
        let is_fork = rollout.meta.as_ref().is_some_and(|meta| meta.base.is_some());
        if !is_fork && !rollout.has_context() {
            return Verdict::EMPTY;
        }
        // A numbered rollout that is in the index is not read as text any more.
        let is_indexed = |meta: &Meta| format.is_numbered && index::has(&self.home, &meta.id);
        if !(format.is_text || rollout.meta.as_ref().is_some_and(is_indexed)) {
            return Verdict::of(Reason::RecordBroken);
        }
        if format.is_numbered && leads_to_another_name(location) {
            return Verdict::of(Reason::LinkRefused);
        }
        Verdict::ACTIVE
    }
}

fn is_rollout(name: &str) -> bool {
    name.starts_with("rollout-") && (name.ends_with(".jsonl") || name.ends_with(".jsonl.zst"))
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok()
}

/// Returns the id at the end of a rollout's name.
pub(super) fn id_in_name(location: &str) -> Option<&str> {
    let name = Path::new(location).file_name()?.to_str()?;
    let stem = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".jsonl")?;
    stem.get(stem.len().checked_sub(36)?..).filter(|id| is_uuid(id))
}

/// True if a location is a link to a file that does not have the name of a rollout.
fn leads_to_another_name(location: &str) -> bool {
    if fs::read_link(location).is_err() {
        return false;
    }
    let target = fs::canonicalize(location).unwrap_or_default();
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !is_rollout(name) || id_in_name(&target.to_string_lossy()).is_none()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "01900001-0000-7000-8000-000000000000";

    /// Writes a rollout with numbered records; returns its path.
    fn write(home: &Home, middle: &[u8]) -> PathBuf {
        let folder = home.path.join("sessions/2026/01/01");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("rollout-2026-01-01T10-00-00-{ID}.jsonl"));
        let time = "2026-01-01T10:00:00.000Z";
        let record = |number: u32, of: &str, payload: Value| {
            let record = json!({ "timestamp": time, "ordinal": number, "type": of,
                "payload": payload });
            record.to_string()
        };
        let description = json!({ "id": ID, "timestamp": time, "cwd": "/",
            "originator": "o", "cli_version": "1", "history_mode": "paginated" });
        let meta = record(0, "session_meta", description);
        let content = json!([{ "type": "input_text", "text": "hi" }]);
        let item = json!({ "type": "message", "role": "user", "content": content });
        let said = record(1, "response_item", item);
        let parts =
            [meta.as_bytes(), b"\n", said.as_bytes(), b"\n", middle, said.as_bytes(), b"\n"];
        fs::write(&path, parts.concat()).unwrap();
        path
    }

    /// Returns the verdicts of a sweep and of a check.
    fn judged(home: &Home, path: &Path, id: &str) -> [Verdict; 2] {
        let location = path.to_str().unwrap().to_owned();
        let read = Codex.read(home, &location).unwrap().verdict;
        let bound = Bound { provider_session_id: id.to_owned(), location, ..Bound::default() };
        [read, Codex.check(home, &bound)]
    }

    #[test]
    fn what_lies_beside_a_rollout_and_deep_in_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let path = write(&home, b"");
        let broken = || [Verdict::of(Reason::RecordBroken), Verdict::of(Reason::RecordBroken)];
        assert_eq!(judged(&home, &path, ID), [Verdict::ACTIVE, Verdict::ACTIVE]);
        let other = "01900002-0000-7000-8000-000000000000";
        assert_eq!(judged(&home, &path, other)[1], Verdict::of(Reason::OtherSession));
        write(&home, b"\xff\n");
        assert_eq!(judged(&home, &path, ID), broken());
        // A sweep reads the ends of a long one, a check all of it.
        let line = [&b"x".repeat(100)[..], b"\n"].concat();
        write(&home, &[line.repeat(3_000), b"\xff\n".to_vec(), line.repeat(3_000)].concat());
        assert_eq!(judged(&home, &path, ID), [Verdict::ACTIVE, Verdict::of(Reason::RecordBroken)]);
        let index = home.path.join("state_5.sqlite");
        let database = rusqlite::Connection::open(&index).unwrap();
        let sql = format!("CREATE TABLE threads (id); INSERT INTO threads VALUES ('{ID}')");
        database.execute_batch(&sql).unwrap();
        drop(database);
        assert_eq!(judged(&home, &path, ID), [Verdict::ACTIVE, Verdict::ACTIVE], "it is indexed");
        fs::write(&index, "garbage").unwrap();
        assert_eq!(judged(&home, &path, ID)[1], Verdict::of(Reason::IndexBroken));
        fs::write(&index, "").unwrap();
        write(&home, b"");
        let aside = home.path.join("aside");
        fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        assert_eq!(judged(&home, &path, ID)[1], Verdict::of(Reason::LinkRefused));
        let named = home.path.join(path.file_name().unwrap());
        fs::rename(&aside, &named).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&named, &path).unwrap();
        assert_eq!(judged(&home, &path, ID), [Verdict::ACTIVE, Verdict::ACTIVE]);
    }
}
