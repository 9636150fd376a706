//! Copies of a conversation: which transcript one was copied from, and whether the person went on
//! in it. A copy has the records of its original under their own ids, and names it nowhere; only
//! the original may say where it goes on, and a file of the job that got the copy when it was made.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use sessd_proto::Timestamp;

use super::transcript::{self, Lineage, Opening};
use crate::providers::{Home, Listing, file};

/// Transcripts of one folder that are compared with a copy, the newest first.
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

/// Folders with copies, each of which is read once.
#[derive(Default)]
pub(super) struct Folders(Mutex<HashMap<PathBuf, Arc<[Other]>>>);

/// A transcript that a copy in the same folder may be of.
struct Other {
    path: PathBuf,
    /// The id of its first message.
    uuid: String,
    continued_in: Option<String>,
    born: Option<Timestamp>,
}

impl Folders {
    /// Returns the newest transcripts in the folder of one.
    fn around(&self, path: &Path) -> Option<Arc<[Other]>> {
        let folder = path.parent()?.to_owned();
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = folders.entry(folder).or_insert_with_key(|folder| {
            newest(folder).into_iter().filter_map(Other::read).collect()
        });
        Some(Arc::clone(others))
    }
}

impl Other {
    fn read(path: PathBuf) -> Option<Self> {
        let Lineage { opening, continued_in } = transcript::lineage(&path)?;
        Some(Self { uuid: opening?.uuid, continued_in, born: time_of_birth(&path), path })
    }
}

/// Returns the origin of a transcript, if it is a copy of another one in its folder.
pub(super) fn origin(
    home: &Home,
    path: &Path,
    opening: &Opening,
    last_activity: Timestamp,
    folders: &Folders,
) -> Option<Origin> {
    let stem = path.file_stem()?.to_str()?;
    let job = read_job(&home.path, stem.get(..8)?).filter(|job| job.session_id == stem);
    let created = job.as_ref().and_then(|job| Timestamp::parse(job.created_at.as_deref()?));
    // A restored home has young files with old messages, too; a copy got messages afterwards.
    let born = time_of_birth(path).filter(|born| last_activity >= *born);
    let is_copy =
        opening.is_copied || [created, born].into_iter().flatten().any(|at| opening.is_before(at));
    if !is_copy {
        return None;
    }
    let others = folders.around(path)?;
    let is_sharing = |other: &&Other| other.path != path && other.uuid == opening.uuid;
    let sharing: Vec<&Other> = others.iter().filter(is_sharing).collect();
    let pointing = sharing.iter().find(|other| other.continued_in.as_deref() == Some(stem));
    // Without a pointer: the one that was there first, of those that were there before.
    let born = time_of_birth(path);
    let older = sharing.iter().filter(|other| other.born < born);
    let origin = pointing.or_else(|| older.min_by_key(|other| other.born))?;
    let parent = origin.path.file_stem()?.to_str()?.to_owned();
    let went_on = || job.as_ref().is_some_and(|job| job.interactive_lineage);
    Some(Origin { parent, goes_on: pointing.is_some() || went_on() })
}

fn time_of_birth(path: &Path) -> Option<Timestamp> {
    let born = fs::metadata(path).ok()?.created().ok()?;
    let since = born.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp(i64::try_from(since.as_millis()).ok()?))
}

/// Returns the transcripts in a folder, the newest first.
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
            let Lineage { opening, .. } = transcript::lineage(&self.path(id))?;
            origin(&home, &self.path(id), &opening?, Timestamp(0), &Folders::default())
        }
    }

    fn queued_later() -> Value {
        json!({ "type": "queue-operation", "timestamp": "2026-01-02T00:00:00Z" })
    }

    #[test]
    fn copy_has_the_first_message_of_its_original() {
        let scene = Scene::new();
        scene.write(OLD, &[], &[]);
        std::thread::sleep(std::time::Duration::from_millis(20));
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
        std::thread::sleep(std::time::Duration::from_millis(20));
        scene.write(NEW, &[], &[]);
        let job = json!({ "sessionId": NEW, "createdAt": "2026-01-02T00:00:00Z",
            "interactiveLineage": true });
        fs::create_dir_all(scene.root.path().join("jobs/bbbbbbbb")).unwrap();
        fs::write(scene.root.path().join("jobs/bbbbbbbb/state.json"), job.to_string()).unwrap();
        let origin = Origin { parent: OLD.to_owned(), goes_on: true };
        assert_eq!(scene.origin(NEW), Some(origin));
        assert_eq!(session_of_job(scene.root.path(), "bbbbbbbb").as_deref(), Some(NEW));
    }
}
