//! Finding, reading and checking Claude Code's transcripts.

use std::io;
use std::path::{Path, PathBuf};

use sessd_proto::Kind;

use super::{Claude, live, settings, transcript};
use crate::providers::{
    Bound, Discovery, Found, Home, Listed, LiveReader, RetentionReader, TranscriptFinder,
    Unreadable, Verdict, listing,
};

impl Discovery for Claude {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let projects = projects(home);
        let mut watched = listing::folders(&projects);
        watched.extend([projects, home.path.join("sessions")]);
        watched
    }

    fn list(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        listing::each(listing::root(&projects(home))?, |project, found| {
            if project.is_dir()? { list_project(&project.path(), found) } else { Ok(()) }
        })
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let place = Place::of(home, location)?;
        let mut found = transcript::read(Path::new(location))?;
        found.facts.provider_session_id = place.stem;
        found.facts.scope = place.scope;
        if place.is_subagent {
            found.facts.kind = Kind::Subagent;
            found.parent = place.parent;
            found.verdict = Verdict::SUBAGENT;
        }
        Some(found)
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = transcript_of(home, bound);
        let place = Place::of(home, &path.to_string_lossy());
        match transcript::check(&path) {
            Ok(_) if place.is_some_and(|place| place.is_subagent) => Verdict::SUBAGENT,
            Ok(verdict) => verdict,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Verdict::of_missing(self.list(home))
            }
            Err(_) => Verdict::UNREADABLE,
        }
    }

    fn live(&self) -> Option<LiveReader> {
        Some(|home| live::read(&home.path.join("sessions")))
    }

    fn appends_to(&self) -> Option<TranscriptFinder> {
        Some(|home, bound| Some(transcript_of(home, bound)).filter(|path| path.is_file()))
    }

    fn retention(&self) -> Option<RetentionReader> {
        Some(settings::retention)
    }
}

/// Returns where the transcript was last seen, else where the CLI would write it.
pub(super) fn transcript_of(home: &Home, bound: &Bound) -> PathBuf {
    if Path::new(&bound.location).is_file() {
        return PathBuf::from(&bound.location);
    }
    let name = format!("{}.jsonl", bound.provider_session_id);
    projects(home).join(&bound.scope).join(name)
}

fn projects(home: &Home) -> PathBuf {
    home.path.join("projects")
}

fn is_transcript(name: &str) -> bool {
    name.ends_with(".jsonl")
}

/// Adds `<project>/<id>.jsonl` and its subagents' transcripts below `<project>/<id>/subagents/`.
fn list_project(project: &Path, found: &mut Vec<Listed>) -> Result<(), Unreadable> {
    for entry in listing::entries(project)? {
        if is_transcript(&entry.name()) {
            found.extend(entry.listed()?);
        } else if entry.is_dir()? {
            let subagents = listing::entries(&entry.path().join("subagents"))?;
            listing::walk(subagents, 4, is_transcript, found)?;
        }
    }
    Ok(())
}

/// The facts in the path of a transcript.
struct Place {
    stem: String,
    scope: String,
    is_subagent: bool,
    /// The session that started the subagent, where the path names it.
    parent: Option<String>,
}

impl Place {
    fn of(home: &Home, location: &str) -> Option<Self> {
        let path = Path::new(location);
        let stem = path.file_stem()?.to_str()?.to_owned();
        let inside = path.strip_prefix(projects(home)).ok()?;
        let mut folders = inside.parent()?.iter();
        let scope = folders.next()?.to_str()?.to_owned();
        let parent = folders.next().and_then(|name| name.to_str()).map(str::to_owned);
        // Older versions put the transcripts of subagents beside those of sessions.
        let is_subagent = parent.is_some() || stem.starts_with("agent-");
        Some(Self { stem, scope, is_subagent, parent })
    }
}
