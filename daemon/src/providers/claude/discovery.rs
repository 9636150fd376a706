//! Finding, reading and checking Claude Code's transcripts.

use std::io;
use std::path::{Path, PathBuf};

use sessd_proto::Kind;

use super::lineage::Folders;
use super::transcript::Lineage;
use super::{Claude, lineage, live, settings, transcript};
use crate::providers::munged::munged;
use crate::providers::{
    Background, Bound, Discovery, Found, Home, Listing, LiveReader, Reader, RetentionReader,
    TranscriptFinder, Unreadable, Verdict, listing,
};

impl Discovery for Claude {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let projects = projects(home);
        let mut watched = listing::folders(&projects);
        watched.extend([projects, home.path.join("sessions")]);
        watched
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        Ok(listing::each(listing::root(&projects(home))?, |project, found| {
            if found.is_dir(&project) {
                list_project(&project.path(), found);
            }
        }))
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        read(home, location, &Folders::default())
    }

    fn reader(&self, home: &Home) -> Option<Box<dyn Reader>> {
        Some(Box::new(Transcripts { home: home.clone(), folders: Folders::default() }))
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = transcript_of(home, bound);
        let place = Place::of(home, &path.to_string_lossy());
        match transcript::check(&path) {
            Ok(_) if place.is_some_and(|place| place.is_subagent) => Verdict::SUBAGENT,
            Ok(verdict) => verdict,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Verdict::of_missing(self.list(home), &bound.location)
            }
            Err(_) => Verdict::UNREADABLE,
        }
    }

    fn scope_of(&self) -> Option<fn(&str) -> String> {
        Some(munged)
    }

    fn live(&self) -> Option<LiveReader> {
        Some(|home| live::read(&home.path))
    }

    fn background(&self, home: &Home, bound: &Bound) -> Option<Background> {
        let job = live::job(&home.path, &bound.provider_session_id)?;
        let [attach, stop] = ["attach", "stop"].map(|verb| vec![verb.to_owned(), job.clone()]);
        Some(Background { attach, stop })
    }

    fn appends_to(&self) -> Option<TranscriptFinder> {
        Some(|home, bound| Some(transcript_of(home, bound)).filter(|path| path.is_file()))
    }

    fn retention(&self) -> Option<RetentionReader> {
        Some(settings::retention)
    }
}

/// Reads transcripts of a home, and once what is beside copies of others.
struct Transcripts {
    home: Home,
    folders: Folders,
}

impl Reader for Transcripts {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| read(&self.home, location, &self.folders)).collect()
    }

    fn check(&self, bound: &Bound) -> Verdict {
        Claude.check(&self.home, bound)
    }
}

fn read(home: &Home, location: &str, folders: &Folders) -> Option<Found> {
    let place = Place::of(home, location)?;
    let (mut found, lineage) = transcript::read(Path::new(location))?;
    // A copy in the folder of another project begins with the records of the first.
    let last = found.facts.cwd.as_deref().filter(|cwd| munged(cwd) == place.scope);
    if let Some(last) = last.filter(|_| munged(&found.facts.launch_dir) != place.scope) {
        found.facts.launch_dir = last.to_owned();
    }
    found.facts.provider_session_id = place.stem;
    found.facts.scope = place.scope;
    if place.is_subagent {
        found.facts.kind = Kind::Subagent;
        found.parent = place.parent;
        found.verdict = Verdict::SUBAGENT;
    } else {
        add_lineage(home, Path::new(location), lineage, folders, &mut found);
    }
    Some(found)
}

/// Adds where a conversation came from and where it went on. Its title does not stand twice in a
/// list: the conversation that a person is in keeps it, and any other is marked.
fn add_lineage(home: &Home, path: &Path, lineage: Lineage, folders: &Folders, found: &mut Found) {
    let Lineage { opening, continued_in } = lineage;
    let id = found.facts.provider_session_id.clone();
    let last_activity = found.facts.last_activity;
    let origin = opening.and_then(|it| lineage::origin(home, path, &it, last_activity, folders));
    let mark = match (&continued_in, &origin) {
        (Some(next), _) => Some(format!("continued in {}", next.get(..8).unwrap_or(next))),
        (None, Some(origin)) if !origin.goes_on => Some("copy".to_owned()),
        _ => None,
    };
    if let (Some(title), Some(mark)) = (&mut found.facts.title, mark) {
        *title = format!("{title} ({mark})");
    }
    match origin {
        Some(origin) if origin.goes_on => found.moved = Some((origin.parent, id)),
        origin => {
            found.parent = origin.map(|origin| origin.parent);
            found.moved = continued_in.map(|next| (id, next));
        }
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
fn list_project(project: &Path, found: &mut Listing) {
    for entry in found.entries(project) {
        if is_transcript(&entry.name()) {
            found.add(&entry);
        } else if found.is_dir(&entry) {
            let subagents = found.entries(&entry.path().join("subagents"));
            found.walk(subagents, 4, is_transcript);
        }
    }
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
