//! Copies of a conversation: which transcript one was copied from, and whether the person went on
//! in it. A copy has the records of its original under their own ids, and names it nowhere; only
//! the original may say where it goes on, and a file of the job that got the copy when it was made.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sessd_proto::Timestamp;

use super::transcript::{self, Lineage, Opening};
use crate::providers::{Home, Listing, file};

/// Transcripts of one folder that are compared with its copies, the newest first.
const COMPARED_MAX: usize = 2_000;

/// The origin of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The id of the session it was copied from.
    pub(super) parent: String,
    /// True if the conversation of the person goes on in the copy.
    pub(super) goes_on: bool,
}

/// The state file of a background job.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    session_id: String,
    created_at: Option<String>,
    /// True if a person took the conversation there from a terminal.
    #[serde(default)]
    interactive_lineage: bool,
}

/// Returns the id of the session that a job has.
pub(super) fn session_of_job(home: &Path, job: &str) -> Option<String> {
    Some(read_job(home, job)?.session_id)
}

fn read_job(home: &Path, job: &str) -> Option<Job> {
    let path = home.join("jobs").join(job).join("state.json");
    serde_json::from_str(&file::settings(&path)?).ok()
}

/// The transcripts that begin alike, by their folder and their first message. Each folder is listed
/// once, and each of its transcripts read once, for any number of copies in it.
#[derive(Default)]
pub(super) struct Siblings {
    folders: HashMap<PathBuf, HashMap<String, Vec<Sibling>>>,
}

/// One of the transcripts that begin alike.
struct Sibling {
    path: PathBuf,
    born: Option<Timestamp>,
    /// The session in which it goes on.
    continued_in: Option<String>,
}

impl Siblings {
    /// Returns the origin of a transcript, if it is a copy of another one in its folder.
    pub(super) fn origin(
        &mut self,
        home: &Home,
        path: &Path,
        opening: &Opening,
        last_activity: Timestamp,
    ) -> Option<Origin> {
        let stem = path.file_stem()?.to_str()?;
        let job = read_job(&home.path, stem.get(..8)?).filter(|job| job.session_id == stem);
        let created = job.as_ref().and_then(|job| Timestamp::parse(job.created_at.as_deref()?));
        let is_copied = opening.is_copied || created.is_some_and(|at| opening.is_before(at));
        // A restored home has young files with old messages, too; a copy got messages afterwards.
        let born = time_of_birth(path);
        let is_young = born.is_some_and(|at| last_activity >= at && opening.is_before(at));
        if !is_copied && !is_young {
            return None;
        }
        let sharing = self.sharing(path, &opening.uuid)?;
        let pointing = sharing
            .iter()
            .position(|other| other.path != path && other.continued_in.as_deref() == Some(stem));
        let goes_on = pointing.is_some() || job.is_some_and(|job| job.interactive_lineage);
        let parent = match pointing {
            Some(at) => &sharing[at].path,
            None => &original(sharing, path, born, opening, is_copied)?.path,
        };
        Some(Origin { parent: parent.file_stem()?.to_str()?.to_owned(), goes_on })
    }

    /// Returns the transcripts beside one that begin with this message.
    fn sharing(&mut self, path: &Path, uuid: &str) -> Option<&mut Vec<Sibling>> {
        let folder = path.parent()?;
        if !self.folders.contains_key(folder) {
            let mut by_opening: HashMap<String, Vec<Sibling>> = HashMap::new();
            for path in newest(folder) {
                let Some(lineage) = transcript::lineage(&path) else { continue };
                let Lineage { opening: Some(opening), continued_in } = lineage else { continue };
                let sibling = Sibling { born: time_of_birth(&path), path, continued_in };
                by_opening.entry(opening.uuid).or_default().push(sibling);
            }
            self.folders.insert(folder.to_owned(), by_opening);
        }
        self.folders.get_mut(folder)?.get_mut(uuid)
    }
}

/// Returns the transcript that a copy was made of, where none says so itself: the one that was
/// there first. If only its own youth makes a transcript a copy, the other must have been there
/// when the first message was written: in a restored home the order of birth tells nothing.
fn original<'s>(
    sharing: &'s [Sibling],
    path: &Path,
    born: Option<Timestamp>,
    opening: &Opening,
    is_copied: bool,
) -> Option<&'s Sibling> {
    let is_possible = |other: &&Sibling| {
        let was_there = other.born.is_some_and(|at| !opening.is_before(at));
        other.path != path && other.born < born && (is_copied || was_there)
    };
    sharing.iter().filter(is_possible).min_by_key(|other| other.born)
}

fn time_of_birth(path: &Path) -> Option<Timestamp> {
    let born = fs::metadata(path).ok()?.created().ok()?;
    let since = born.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp(i64::try_from(since.as_millis()).ok()?))
}

/// Returns the transcripts in a folder, the newest first, at most [`COMPARED_MAX`].
fn newest(folder: &Path) -> Vec<PathBuf> {
    let mut listing = Listing::default();
    let entries = listing.entries(folder);
    listing.walk(entries, 0, |name| name.ends_with(".jsonl"));
    let mut listed = listing.transcripts;
    listed.sort_unstable_by_key(|it| std::cmp::Reverse(it.stamp.mtime_ns));
    listed.truncate(COMPARED_MAX);
    listed.into_iter().map(|it| it.location.into()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    const OLD: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    const NEW: &str = "bbbbbbbb-0000-4000-8000-000000000000";

    struct Scene {
        root: TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("projects/p")).unwrap();
            Self { root }
        }

        fn path(&self, id: &str) -> PathBuf {
            self.root.path().join(format!("projects/p/{id}.jsonl"))
        }

        /// Writes a transcript whose first message has the same id in every copy.
        fn write(&self, id: &str, before: &[Value], after: &[Value]) {
            let said = json!({ "type": "user", "uuid": "u1", "timestamp": "2026-01-01T00:00:00Z",
                "message": { "role": "user", "content": "hi" }, "sessionId": id });
            let lines = before.iter().chain([&said]).chain(after);
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            fs::write(self.path(id), text).unwrap();
        }

        fn origin(&self, id: &str) -> Option<Origin> {
            let home = Home { path: self.root.path().to_owned(), env: [].into() };
            let (path, mut siblings) = (self.path(id), Siblings::default());
            // An older file would do as well, but none can be made.
            if let Some(sharing) = siblings.sharing(&path, "u1") {
                sharing.iter_mut().filter(|it| it.path != path).for_each(|it| it.born = None);
            }
            let opening = transcript::lineage(&path)?.opening?;
            siblings.origin(&home, &path, &opening, Timestamp(0))
        }
    }

    fn queued_later() -> Value {
        json!({ "type": "queue-operation", "timestamp": "2026-01-02T00:00:00Z" })
    }

    #[test]
    fn copy_has_the_first_message_of_its_original() {
        let scene = Scene::new();
        scene.write(OLD, &[], &[]);
        scene.write(NEW, &[queued_later()], &[]);
        let origin = Origin { parent: OLD.to_owned(), goes_on: false };
        assert_eq!(scene.origin(NEW), Some(origin));
        assert_eq!(scene.origin(OLD), None);
    }

    #[test]
    fn pointer_in_the_original_makes_the_copy_its_continuation() {
        let scene = Scene::new();
        let pointer = json!({ "type": "continued-in", "continuedInSessionId": NEW });
        scene.write(OLD, &[], std::slice::from_ref(&pointer));
        scene.write(NEW, &[queued_later()], &[]);
        let origin = Origin { parent: OLD.to_owned(), goes_on: true };
        assert_eq!(scene.origin(NEW), Some(origin));
        let continued_in = || transcript::lineage(&scene.path(OLD)).unwrap().continued_in;
        assert_eq!(continued_in().as_deref(), Some(NEW));
        // The person has gone back and said more in the original.
        let more = json!({ "type": "user", "uuid": "u2", "timestamp": "2026-01-03T00:00:00Z",
            "message": { "role": "user", "content": "more" } });
        scene.write(OLD, &[], &[pointer, more]);
        assert_eq!(continued_in(), None);
    }

    #[test]
    fn job_of_a_person_makes_a_copy_the_continuation() {
        let scene = Scene::new();
        scene.write(OLD, &[], &[]);
        scene.write(NEW, &[], &[]);
        let job = json!({ "sessionId": NEW, "createdAt": "2026-01-02T00:00:00Z",
            "interactiveLineage": true });
        fs::create_dir_all(scene.root.path().join("jobs/bbbbbbbb")).unwrap();
        fs::write(scene.root.path().join("jobs/bbbbbbbb/state.json"), job.to_string()).unwrap();
        let origin = Origin { parent: OLD.to_owned(), goes_on: true };
        assert_eq!(scene.origin(NEW), Some(origin));
        assert_eq!(session_of_job(scene.root.path(), "bbbbbbbb").as_deref(), Some(NEW));
    }

    #[test]
    fn original_is_the_one_that_was_there_first() {
        let opening = Opening { uuid: String::new(), at: Timestamp(0), is_copied: false };
        let born = |name: &str, hours: i64| {
            let born = Some(Timestamp(hours * 3_600_000));
            Sibling { path: name.into(), born, continued_in: None }
        };
        let original = |sharing: &[Sibling], hours: i64, is_copied: bool| {
            let own = Some(Timestamp(hours * 3_600_000));
            let found = original(sharing, Path::new("own"), own, &opening, is_copied);
            found.map(|found| found.path.to_string_lossy().into_owned())
        };
        let first = [born("own", 5), born("fork", 4), born("first", 0)];
        assert_eq!(original(&first, 5, false).as_deref(), Some("first"));
        // A home that was restored after the fork, in any order.
        let restored = [born("own", 5), born("fork", 4)];
        assert_eq!(original(&restored, 5, false), None);
        assert_eq!(original(&restored, 5, true).as_deref(), Some("fork"));
        assert_eq!(original(&restored, 3, true), None, "it was there before");
    }
}
