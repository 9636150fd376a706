//! Promise: "gone" is never guessed. Only a home that could be listed, and did not lose more
//! than half of itself at once, tells that a session is gone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sessd_proto::doctor::{DoctorReport, Level};
use sessd_proto::{Reason, Session, Status};
use sessd_tests::sandbox::Sandbox;
use uuid::Uuid;

use crate::BINARIES;
use crate::scene::{NEVER, check, fault, run_job, sessions, set_age, verdict};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A home of Claude Code with hand-written sessions.
struct Home {
    sandbox: Sandbox,
    known: BTreeMap<String, Session>,
}

impl Home {
    /// With as many sessions, all in the registry.
    fn with(count: usize) -> Self {
        let mut sandbox = Sandbox::new(BINARIES);
        sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
        sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
        sandbox.set_env("SESSD_HEARTBEAT_SCHEDULE", NEVER);
        sandbox.set_env("SESSD_HEARTBEAT_FRESH_S", "0");
        let project = sandbox.dir("project");
        for _ in 0..count {
            write_session(&sandbox, &project);
        }
        let mut home = Self { sandbox, known: BTreeMap::new() };
        home.sandbox.wait_until_started();
        home.known = home.sessions();
        assert_eq!(home.known.len(), count);
        assert!(home.known.values().all(|session| session.status == Status::Active));
        home
    }

    fn sessions(&self) -> BTreeMap<String, Session> {
        let all = sessions(&self.sandbox, &["list", "--all"]).into_iter();
        all.map(|session| (session.id.clone(), session)).collect()
    }

    fn projects(&self) -> PathBuf {
        self.sandbox.home().join(".claude/projects")
    }

    /// The transcripts, in the order of our ids.
    fn transcripts(&self) -> Vec<PathBuf> {
        let name = |session: &Session| session.provider_session_id.clone().unwrap();
        let path = |id: String| self.projects().join(folder(&self.sandbox)).join(id + ".jsonl");
        self.known.values().map(|session| path(name(session))).collect()
    }

    /// Runs the jobs and the check that could conclude a loss; returns all verdicts after them.
    fn verdicts(&self) -> Vec<(Status, Option<&'static str>)> {
        run_job(&self.sandbox, "discovery");
        run_job(&self.sandbox, "heartbeat");
        let ids: Vec<&str> = self.known.keys().map(String::as_str).collect();
        sessions(&self.sandbox, &[&["check"], &*ids].concat());
        let now = self.sessions();
        assert!(now.keys().eq(self.known.keys()), "sessions vanished from the registry");
        now.into_values()
            .map(|session| (session.status, session.reason.map(Reason::as_str)))
            .collect()
    }

    #[track_caller]
    fn assert_nothing_is_concluded(&self, reason: &str) {
        for (status, found) in self.verdicts() {
            assert!(status == Status::Active || status == Status::Unknown, "{status:?}");
            assert!(status == Status::Active || found == Some(reason), "{found:?}");
        }
    }

    #[track_caller]
    fn assert_as_before(&self) {
        self.verdicts();
        let facts = |session: &Session| {
            let Session { status, reason, last_activity, keys, tags, title, .. } = session.clone();
            (status, reason, last_activity, keys, tags, title)
        };
        for (id, now) in self.sessions() {
            assert_eq!(facts(&now), facts(&self.known[&id]));
        }
    }

    /// The problem that doctor reports with this home.
    fn problem(&self) -> Option<String> {
        let output = self.sandbox.sessctl(&["--json", "doctor"]);
        let report: DoctorReport = serde_json::from_str(&output.stdout).unwrap();
        let home = self.sandbox.home().join(".claude").display().to_string();
        let is_it = |message: &String| message.contains(&home);
        let problems = report.findings.into_iter().filter(|f| f.level != Level::Ok);
        problems.map(|finding| finding.message).find(is_it)
    }
}

/// The folder of the project's transcripts.
fn folder(sandbox: &Sandbox) -> String {
    folder_of(&sandbox.home().join("project"))
}

fn folder_of(project: &Path) -> String {
    project.to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn write_session(sandbox: &Sandbox, project: &Path) -> PathBuf {
    let record = serde_json::json!({
        "type": "user", "message": {"role": "user", "content": "a question"},
        "timestamp": "2026-11-21T08:00:00.000Z", "cwd": project, "entrypoint": "cli",
    });
    let name = format!(".claude/projects/{}/{}.jsonl", folder_of(project), Uuid::new_v4());
    sandbox.write(&name, format!("{record}\n"))
}

#[test]
fn gone_is_not_what_is_in_a_missing_home() {
    let home = Home::with(3);
    let (here, away) = (home.sandbox.home().join(".claude"), home.sandbox.home().join("away"));
    for (place, hidden) in [(here.clone(), &away), (home.projects(), &away)] {
        fs::rename(&place, hidden).unwrap();
        home.assert_nothing_is_concluded("home_missing");
        fs::rename(hidden, &place).unwrap();
        home.assert_as_before();
    }
}

/// Modes do not keep root out, so a part of the store becomes a link to a disk that is not there.
#[test]
fn gone_is_not_what_is_below_an_unreadable_part() {
    let home = Home::with(3);
    let (folder, kept) = (home.projects().join(folder(&home.sandbox)), home.sandbox.dir("kept"));
    for (part, reason) in [(folder, "part_unreadable"), (home.projects(), "home_unreadable")] {
        fs::rename(&part, kept.join("part")).unwrap();
        symlink("/nowhere/at/all", &part).unwrap();
        home.assert_nothing_is_concluded(reason);
        assert!(home.problem().unwrap().contains("cannot be read"));
        fs::remove_file(&part).unwrap();
        fs::rename(kept.join("part"), &part).unwrap();
        home.assert_as_before();
    }
    assert_eq!(home.problem(), None);
}

#[test]
fn gone_is_not_what_a_home_lost_with_more_than_half() {
    let home = Home::with(5);
    let transcripts = home.transcripts();
    let kept = home.sandbox.dir("kept");
    for path in &transcripts[..3] {
        fs::rename(path, kept.join(path.file_name().unwrap())).unwrap();
    }
    home.assert_nothing_is_concluded("home_held");
    let held = home.sessions().into_values().find(|found| found.status == Status::Unknown);
    let refused = fault(&home.sandbox, &["resume", &held.unwrap().id], 6);
    assert!(refused.message.ends_with(": home_held"), "{}", refused.message);
    let problem = home.problem().unwrap();
    assert!(problem.contains("3 of its 5 sessions disappeared"), "{problem}");
    // Nor by a daemon that was not there when it happened.
    crate::scene::answer(&home.sandbox, &["daemon", "restart"]);
    home.assert_nothing_is_concluded("home_held");
    for path in &transcripts[..3] {
        fs::rename(kept.join(path.file_name().unwrap()), path).unwrap();
    }
    home.assert_as_before();
    assert_eq!(home.problem(), None);
}

/// The rest of a home in doubt tells nothing about a folder that still has most of its sessions.
#[test]
fn gone_from_its_own_folder_is_proven_in_a_held_home() {
    let home = Home::with(3);
    let other = home.sandbox.dir("other");
    let lost: Vec<PathBuf> = (0..5).map(|_| write_session(&home.sandbox, &other)).collect();
    run_job(&home.sandbox, "discovery");
    let one = &home.transcripts()[0];
    lost.iter().chain([one]).for_each(|path| fs::remove_file(path).unwrap());
    run_job(&home.sandbox, "discovery");
    let active = |session: &Session| session.status == Status::Active;
    assert!(home.sessions().values().all(active), "a sweep concludes nothing");
    let id = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let of_lost = check(&home.sandbox, &id(&lost[0]));
    assert_eq!(verdict(&of_lost), (Status::Unknown, Some("home_held")));
    let of_one = check(&home.sandbox, &id(one));
    assert_eq!(verdict(&of_one), (Status::Expired, Some("transcript_missing")));
}

#[test]
fn gone_is_believed_when_a_person_says_so() {
    let home = Home::with(5);
    let ids: Vec<&str> = home.known.keys().map(String::as_str).collect();
    home.transcripts()[..3].iter().for_each(|path| fs::remove_file(path).unwrap());
    home.assert_nothing_is_concluded("home_held");
    let believed = [&["check", "--accept-losses"], &ids[..3]].concat();
    for session in sessions(&home.sandbox, &believed) {
        assert_eq!(verdict(&session), (Status::Expired, Some("transcript_missing")));
    }
    let after: Vec<_> = home.verdicts().into_iter().map(|(status, _)| status).collect();
    use Status::{Active, Expired};
    assert_eq!(after, [Expired, Expired, Expired, Active, Active]);
    assert_eq!(home.problem(), None, "an accepted loss is still a problem");
}

#[test]
fn gone_is_one_of_several_that_was_removed() {
    let home = Home::with(5);
    fs::remove_file(&home.transcripts()[0]).unwrap();
    let gone = home.known.keys().next().unwrap();
    let found = check(&home.sandbox, gone);
    assert_eq!(verdict(&found), (Status::Expired, Some("transcript_missing")));
    let active = home.verdicts().into_iter().filter(|(status, _)| *status == Status::Active);
    assert_eq!(active.count(), 4);
    assert_eq!(home.problem(), None);
}

/// The provider deletes what is older than 30 days, all at once.
#[test]
fn gone_as_predicted_raises_no_doubt() {
    let home = Home::with(5);
    let old = &home.transcripts()[..4];
    old.iter().for_each(|path| set_age(path, 31 * DAY));
    run_job(&home.sandbox, "discovery");
    let statuses =
        |home: &Home| home.sessions().into_values().map(|s| s.status).collect::<Vec<_>>();
    assert_eq!(statuses(&home), [Status::Active; 5], "a prediction is not a status");
    old.iter().for_each(|path| fs::remove_file(path).unwrap());
    run_job(&home.sandbox, "discovery");
    use Status::{Active, Expired};
    assert_eq!(statuses(&home), [Expired, Expired, Expired, Expired, Active]);
    assert_eq!(home.problem(), None);
}

/// Sessions that expired long ago do not count as part of a home.
#[test]
fn gone_is_not_made_credible_by_what_is_gone_already() {
    let home = Home::with(9);
    let transcripts = home.transcripts();
    for path in &transcripts[..6] {
        fs::remove_file(path).unwrap();
        run_job(&home.sandbox, "discovery");
    }
    let expired = || home.sessions().into_values().filter(|s| s.status == Status::Expired).count();
    assert_eq!(expired(), 6, "one at a time is believed");
    transcripts[6..8].iter().for_each(|path| fs::remove_file(path).unwrap());
    home.verdicts();
    assert_eq!(expired(), 6, "two of the three that were left are not");
    assert!(home.problem().is_some());
}
