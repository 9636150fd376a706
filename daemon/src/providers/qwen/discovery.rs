//! Finding, reading and checking Qwen Code's transcripts.

use std::io;
use std::path::{Path, PathBuf};

use sessd_proto::{Kind, Reason};

use super::{NEWER, Qwen, live, transcript};
use crate::providers::{
    Bound, Discovery, Found, Home, Listing, LiveReader, TranscriptFinder, Unreadable, Verdict,
    Version, listing,
};

/// The CLI deletes nothing by age.
impl Discovery for Qwen {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let projects = projects(home);
        let folders = listing::folders(&projects).into_iter();
        let chats = folders.flat_map(|project| ["chats", ARCHIVE].map(|name| project.join(name)));
        let sessions = live::folder(home);
        let there = chats.chain(sessions).filter(|folder| folder.is_dir());
        there.chain([projects.clone()]).collect()
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let mut found = Listing::default();
        for project in listing::root(&projects(home))? {
            if found.is_dir(&project) {
                let [chats, subagents] =
                    ["chats", "subagents"].map(|name| found.entries(&project.path().join(name)));
                let archive = project.path().join(ARCHIVE);
                let archived = found.entries(&archive);
                found.walk(chats, 0, is_transcript);
                found.walk(archived, 0, is_transcript);
                found.walk(subagents, 1, is_transcript);
                // Any missing session of the project may have been archived.
                found.widen_gaps(&archive, &project.path());
            }
        }
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let place = Place::of(home, Path::new(location))?;
        let mut found = transcript::read(Path::new(location), &place.folder)?;
        found.verdict = place.judge(found.verdict);
        if place.is_subagent {
            found.facts.kind = Kind::Subagent;
            found.parent = place.parent;
        }
        found.facts.provider_session_id = place.stem;
        found.facts.scope = place.folder;
        Some(found)
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = transcript_of(home, bound);
        let missing = || Verdict::of_missing(self.list(home), &bound.location);
        let Some(place) = Place::of(home, &path) else { return missing() };
        match transcript::check(&path, &place.folder) {
            Ok(verdict) => place.judge(verdict),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing(),
            Err(_) => Verdict::UNREADABLE,
        }
    }

    fn live(&self) -> Option<LiveReader> {
        Some(live::read)
    }

    fn live_since(&self) -> Option<Version> {
        Some(NEWER)
    }

    fn appends_to(&self) -> Option<TranscriptFinder> {
        Some(|home, bound| Some(transcript_of(home, bound)).filter(|path| path.is_file()))
    }
}

/// The folder of a project into which the CLI moves the sessions that its user archives.
const ARCHIVE: &str = "chats/archive";

fn projects(home: &Home) -> PathBuf {
    home.path.join("projects")
}

fn is_transcript(name: &str) -> bool {
    name.ends_with(".jsonl")
}

/// The facts in the path of a transcript: `<folder>/chats/<id>.jsonl`,
/// `<folder>/chats/archive/<id>.jsonl`, or
/// `<folder>/subagents/<id of the session>/agent-<id>.jsonl`.
struct Place {
    stem: String,
    folder: String,
    is_subagent: bool,
    is_archived: bool,
    /// The session that started the subagent.
    parent: Option<String>,
}

impl Place {
    fn of(home: &Home, path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?.to_owned();
        let mut folders = path.strip_prefix(projects(home)).ok()?.parent()?.iter();
        let mut next = || folders.next().and_then(|name| name.to_str()).map(str::to_owned);
        let folder = next()?;
        let is_subagent = next()? == "subagents";
        let inner = next();
        let is_archived = !is_subagent && inner.as_deref() == Some("archive");
        let parent = inner.filter(|_| is_subagent);
        Some(Self { stem, folder, is_subagent, is_archived, parent })
    }

    /// Returns the verdict on the records, unless the path alone makes the session invalid.
    fn judge(&self, verdict: Verdict) -> Verdict {
        if self.is_subagent {
            return Verdict::SUBAGENT;
        }
        if !is_id(&self.stem) {
            return Verdict::MALFORMED_ID;
        }
        if self.is_archived {
            return Verdict::of(Reason::ArchivedByProvider);
        }
        verdict
    }
}

/// True if the CLI takes this for an id; it looks up anything else as a title.
fn is_id(text: &str) -> bool {
    let (id, agent) = text.split_at_checked(36).unwrap_or((text, ""));
    let digits = |at: usize| id.as_bytes().get(at).copied().unwrap_or_default();
    let is_known = matches!(digits(14), b'1'..=b'5')
        && matches!(digits(19).to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    let is_uuid = id.len() == 36 && uuid::Uuid::parse_str(id).is_ok();
    is_uuid && is_known && (agent.is_empty() || agent.starts_with("-agent-"))
}

/// Returns where the transcript was last seen, else where the CLI would write it, or move it.
fn transcript_of(home: &Home, bound: &Bound) -> PathBuf {
    if Path::new(&bound.location).is_file() {
        return PathBuf::from(&bound.location);
    }
    let (name, project) =
        (format!("{}.jsonl", bound.provider_session_id), projects(home).join(&bound.scope));
    let [chat, archived] = ["chats", ARCHIVE].map(|folder| project.join(folder).join(&name));
    if !chat.exists() && archived.is_file() { archived } else { chat }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised_as_the_cli_does() {
        assert!(is_id("11111111-1111-4111-8111-111111111111"));
        assert!(is_id("11111111-1111-4111-8111-111111111111-agent-one"));
        for text in ["", "not-an-id", "11111111-1111-7111-8111-111111111111", "é"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
