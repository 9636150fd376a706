//! Promise: what cannot be read hides nothing but itself, and every transcript is one row, whatever
//! names lead to it; its plan continues exactly that transcript.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use sessd_proto::doctor::{DoctorReport, Finding};
use sessd_proto::{FaultCode, LiveState, Status};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::scene::{
    NEVER, all_sessions, answer, check, fault, run_job, show, verdict, wait_for_live,
};
use crate::turn_verbs::{detach, wait_for_state};

/// A machine on which only `sessctl jobs run discovery` looks for changes.
fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
    sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
    sandbox.set_env("SESSD_HEARTBEAT_SCHEDULE", NEVER);
    sandbox
}

fn id(number: u32) -> String {
    format!("bbbbbbbb-0000-7000-8000-{number:012}")
}

/// The folder of Claude Code's transcripts of a directory.
fn munged(directory: &Path) -> String {
    let path = directory.to_str().unwrap();
    path.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// A transcript of Claude Code that was started in this directory.
fn claude(directory: &Path, prompt: &str) -> String {
    let record = json!({
        "type": "user", "uuid": "u", "timestamp": "2026-11-21T08:00:00.000Z", "cwd": directory,
        "entrypoint": "cli", "message": { "role": "user", "content": prompt },
    });
    format!("{record}\n")
}

/// Writes a transcript of Claude Code for a directory into one of its homes.
fn write_claude(home: &Path, directory: &Path, number: u32) -> PathBuf {
    let folder = home.join("projects").join(munged(directory));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}.jsonl", id(number)));
    fs::write(&path, claude(directory, &format!("prompt {number}"))).unwrap();
    path
}

fn write_codex(sandbox: &Sandbox, day: &str, number: u32) {
    let meta = json!({
        "timestamp": "2026-11-21T08:00:00.000Z", "type": "session_meta",
        "payload": { "id": id(number), "cwd": sandbox.home(), "source": "cli" },
    });
    let typed = json!({
        "timestamp": "2026-11-21T08:00:00.000Z", "type": "event_msg",
        "payload": { "type": "user_message", "message": "a prompt" },
    });
    let name = format!("rollout-2026-11-21T08-00-00-{}.jsonl", id(number));
    sandbox.write(&format!(".codex/sessions/2026/11/{day}/{name}"), format!("{meta}\n{typed}\n"));
}

fn write_gemini(sandbox: &Sandbox, project: &str, number: u32) {
    let directory = sandbox.dir(project);
    sandbox.write(&format!(".gemini/tmp/{project}/.project_root"), directory.to_str().unwrap());
    let time = "2026-11-21T08:00:00.000Z";
    let header = json!({
        "sessionId": id(number), "projectHash": "h", "startTime": time, "lastUpdated": time,
        "kind": "main",
    });
    let typed = json!({ "id": "1", "timestamp": time, "type": "user", "content": "a prompt" });
    let name = format!("session-2026-11-21T08-00-{number:08}.jsonl");
    sandbox.write(&format!(".gemini/tmp/{project}/chats/{name}"), format!("{header}\n{typed}\n"));
}

/// The provider's ids in the list, sorted.
fn found(sandbox: &Sandbox) -> Vec<String> {
    run_job(sandbox, "discovery");
    let ids = all_sessions(sandbox).into_iter().filter_map(|it| it.provider_session_id);
    let mut ids: Vec<String> = ids.collect();
    ids.sort_unstable();
    ids
}

fn findings(sandbox: &Sandbox) -> Vec<Finding> {
    let output = sandbox.sessctl(&["--json", "doctor"]);
    serde_json::from_str::<DoctorReport>(&output.stdout).unwrap().findings
}

/// The command of a plan as a shell reads it.
fn plan(sandbox: &Sandbox, id: &str) -> String {
    let output = sandbox.sessctl(&["resume", id, "--plan"]);
    assert_eq!(output.status, 0, "{output:#?}");
    output.stdout
}

/// Asserts that a link at this part of a store, which leads nowhere or to itself, is named by
/// `list`, `check`, `resume` and `doctor`, and hides nothing but itself: not the session that
/// `write` makes with the number 1, nor one that begins later.
fn hides_only_itself(part: &str, write: impl Fn(&Sandbox, u32)) {
    for is_loop in [false, true] {
        let sandbox = sandbox();
        write(&sandbox, 1);
        let part = sandbox.home().join(part);
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        symlink(if is_loop { &part } else { Path::new("/nowhere/at/all") }, &part).unwrap();
        assert_eq!(found(&sandbox), [id(1)], "{}", part.display());
        write(&sandbox, 2);
        assert_eq!(found(&sandbox), [id(1), id(2)], "{}", part.display());
        assert!(all_sessions(&sandbox).iter().all(|it| it.status == Status::Active));
        let (name, one) = (part.to_str().unwrap(), &*id(2));
        for words in [&["list"][..], &["check", one], &["resume", one, "--plan"]] {
            let said = sandbox.sessctl(words);
            assert_eq!(said.status, 0, "{said:#?}");
            let noted = said.stderr.lines().filter(|line| line.contains(name)).count();
            assert_eq!(noted, 1, "{words:?}: {said:#?}");
            let in_json = &answer(&sandbox, words)["incomplete"][0];
            assert_eq!(in_json["path"], name, "{words:?}");
            assert!(in_json["error"].as_str().is_some_and(|error| !error.is_empty()));
        }
        assert!(findings(&sandbox).iter().any(|it| it.message.contains(name)));
        fs::remove_file(part).unwrap();
        run_job(&sandbox, "discovery");
        let said = sandbox.sessctl(&["list"]);
        assert_eq!((said.status, &*said.stderr), (0, ""), "{said:#?}");
    }
}

#[test]
fn a_link_that_leads_nowhere_hides_nothing_of_claude() {
    let write = |sandbox: &Sandbox, number| {
        write_claude(&sandbox.home().join(".claude"), &sandbox.dir("project"), number);
    };
    for part in ["-elsewhere", &format!("-elsewhere/{}.jsonl", id(5))] {
        hides_only_itself(&format!(".claude/projects/{part}"), write);
    }
}

#[test]
fn a_link_that_leads_nowhere_hides_nothing_of_codex() {
    for part in ["sessions/2026/11/20", "sessions/2025", "archived_sessions"] {
        let write = |sandbox: &Sandbox, number| write_codex(sandbox, "21", number);
        hides_only_itself(&format!(".codex/{part}"), write);
    }
}

#[test]
fn a_link_that_leads_nowhere_hides_nothing_of_gemini() {
    for part in ["elsewhere", "elsewhere/chats"] {
        let write = |sandbox: &Sandbox, number| write_gemini(sandbox, "project", number);
        hides_only_itself(&format!(".gemini/tmp/{part}"), write);
    }
}

/// A session below such a link is `unknown`, and active again once the link is mended.
#[test]
fn nothing_is_gone_below_a_link_that_leads_nowhere() {
    let sandbox = sandbox();
    write_codex(&sandbox, "21", 1);
    write_codex(&sandbox, "20", 2);
    let (all, home) = (found(&sandbox), sandbox.home());
    let (day, away) = (home.join(".codex/sessions/2026/11/20"), home.join("away"));
    fs::rename(&day, &away).unwrap();
    symlink("/nowhere/at/all", &day).unwrap();
    assert_eq!(found(&sandbox), all);
    for number in [1, 2] {
        let wanted = [(Status::Active, None), (Status::Unknown, Some("part_unreadable"))];
        assert_eq!(verdict(&show(&sandbox, &id(number))), wanted[number as usize - 1]);
    }
    assert_eq!(check(&sandbox, &id(2)).status, Status::Unknown);
    fs::remove_file(&day).unwrap();
    fs::rename(&away, &day).unwrap();
    run_job(&sandbox, "discovery");
    assert_eq!(show(&sandbox, &id(2)).status, Status::Active);
}

#[test]
fn a_transcript_with_two_names_is_one_session() {
    let sandbox = sandbox();
    let (project, home) = (sandbox.dir("project"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &project, 1);
    // A folder, a file and a whole home.
    symlink(file.parent().unwrap(), home.join("projects/-linked")).unwrap();
    let other = home.join("projects/-other");
    fs::create_dir(&other).unwrap();
    symlink(&file, other.join(file.file_name().unwrap())).unwrap();
    symlink(&home, sandbox.home().join("linked")).unwrap();
    sandbox.write(
        ".config/sessd/config.toml",
        format!("[homes]\nclaude = [\"{}\"]\n", sandbox.home().join("linked").display()),
    );
    assert_eq!(found(&sandbox), [id(1)]);
    let plan = plan(&sandbox, &id(1));
    assert!(plan.contains(&format!("--resume={}", id(1))), "{plan}");
    assert!(plan.contains(project.to_str().unwrap()), "{plan}");
}

/// A prompt to a copy must not be written into the original. A copy in the folder of another
/// directory is continued there, any other by its path.
#[test]
fn a_copy_is_a_session_with_a_plan_of_its_own() {
    let sandbox = sandbox();
    let home = sandbox.home().join(".claude");
    let original = write_claude(&home, &sandbox.dir("project"), 1);
    let copy_to = |folder: &str| {
        let copy = home.join("projects").join(folder).join(original.file_name().unwrap());
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(&original, &copy).unwrap();
        copy
    };
    copy_to(&munged(&sandbox.dir("elsewhere")));
    let unknown = copy_to("-of-no-directory");
    assert_eq!(found(&sandbox), [id(1), id(1), id(1)]);
    let all = all_sessions(&sandbox);
    let plans: Vec<String> = all.iter().map(|session| plan(&sandbox, &session.id)).collect();
    for (directory, names) in [
        ("project", format!("--resume={} ", id(1))),
        ("elsewhere", format!("--resume={} ", id(1))),
        ("project", format!("--resume={} ", unknown.display())),
    ] {
        let directory = format!("cd {} &&", sandbox.home().join(directory).display());
        let is_it = |plan: &&String| plan.starts_with(&directory) && plan.contains(&names);
        assert_eq!(plans.iter().filter(is_it).count(), 1, "{directory} {names}: {plans:#?}");
    }
}

/// A hard link is the same transcript until either side is rewritten.
#[test]
fn a_hard_link_is_a_session_of_its_own_once_it_differs() {
    let sandbox = sandbox();
    let (project, home) = (sandbox.dir("project"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &project, 1);
    let backup = home.join("projects/-backup").join(file.file_name().unwrap());
    fs::create_dir(backup.parent().unwrap()).unwrap();
    fs::hard_link(&file, &backup).unwrap();
    assert_eq!(found(&sandbox), [id(1)]);
    let new = sandbox.write("new", claude(&project, "rewritten"));
    fs::rename(new, &backup).unwrap();
    assert_eq!(found(&sandbox), [id(1), id(1)]);
}

/// Two rows of a transcript that a link now shows to be one, as an older sessd left them.
struct Twins {
    sandbox: Sandbox,
    /// Ours, the older first.
    ids: [String; 2],
    link: PathBuf,
    folder: PathBuf,
}

impl Twins {
    fn new() -> Self {
        let sandbox = sandbox();
        let home = sandbox.home().join(".claude");
        let file = write_claude(&home, &sandbox.dir("project"), 1);
        let folder = file.parent().unwrap().to_owned();
        let link = home.join("projects/-linked");
        let ours = |sandbox: &Sandbox| {
            let all = all_sessions(sandbox).into_iter();
            all.map(|session| session.id).collect::<Vec<_>>()
        };
        found(&sandbox);
        let [first] = &ours(&sandbox)[..] else { panic!("one session") };
        let first = first.clone();
        fs::create_dir(&link).unwrap();
        fs::copy(&file, link.join(file.file_name().unwrap())).unwrap();
        found(&sandbox);
        let second = ours(&sandbox).into_iter().find(|id| *id != first).expect("a copy");
        Self { sandbox, ids: [first, second], link, folder }
    }

    /// Makes one transcript of the two.
    fn join(&self) {
        fs::remove_dir_all(&self.link).unwrap();
        symlink(&self.folder, &self.link).unwrap();
        run_job(&self.sandbox, "discovery");
    }
}

#[test]
fn rows_of_one_transcript_are_merged_and_nothing_is_lost() {
    let twins = Twins::new();
    let (sandbox, [first, second]) = (&twins.sandbox, &twins.ids);
    answer(sandbox, &["tag", second, "red"]);
    answer(sandbox, &["pin", second]);
    answer(sandbox, &["key", "bind", "@kept", second]);
    answer(sandbox, &["title", first, "mine"]);
    twins.join();
    let [left] = &all_sessions(sandbox)[..] else { panic!("one session") };
    assert_eq!(&left.id, second, "the one with a key stays");
    assert_eq!((&left.tags[..], left.pinned), (&["red".to_owned()][..], true));
    for selector in [&**first, second, "@kept", &id(1)] {
        assert_eq!(&show(sandbox, selector).id, second, "{selector}");
    }
    assert_eq!(found(sandbox), [id(1)], "a second sweep changes nothing");
}

#[test]
fn rows_of_one_transcript_with_keys_stay_and_are_named() {
    let twins = Twins::new();
    let (sandbox, [first, second]) = (&twins.sandbox, &twins.ids);
    answer(sandbox, &["key", "bind", "@one", first]);
    answer(sandbox, &["key", "bind", "@two", second]);
    twins.join();
    assert_eq!(all_sessions(sandbox).len(), 2);
    let named = |finding: &Finding| finding.message.contains(&**first);
    let finding = findings(sandbox).into_iter().find(named).expect("a finding");
    assert!(finding.message.contains(&**second), "{}", finding.message);
    // The hint can be typed as it stands.
    let hint = finding.hint.unwrap();
    let command = hint.split('`').nth(1).unwrap();
    let path = Path::new(BINARIES.sessctl).parent().unwrap();
    let command = command.replace("sessctl", BINARIES.sessctl);
    let typed =
        sandbox.run(sandbox.command("sh").args(["-c", &command]).current_dir(path), DEADLINE);
    assert_eq!(typed.status, 0, "{typed:#?}");
    run_job(sandbox, "discovery");
    let [left] = &all_sessions(sandbox)[..] else { panic!("one session") };
    assert_eq!(left.keys, ["@one", "@two"]);
    assert!(!findings(sandbox).iter().any(|it| it.message.contains(&*left.id)));
}

/// Two sessions with keys that are one transcript never run at the same time.
#[test]
fn rows_of_one_transcript_have_one_lease_and_one_queue() {
    let twins = Twins::new();
    let sandbox = &twins.sandbox;
    for (key, id) in ["@one", "@two"].iter().zip(&twins.ids) {
        answer(sandbox, &["key", "bind", key, id]);
    }
    twins.join();
    sandbox.link("claude", &sandbox.script("claude", "#!/bin/sh\nexec sleep 1000\n"));
    let turn = |key| detach(sandbox, &[key, "hello"]);
    let [first, second] = ["@one", "@two"].map(turn);
    wait_for_state(sandbox, &first, "running");
    assert_eq!(sandbox.json(&["turns", "show", &second])["state"], "queued");
    for key in ["@one", "@two"] {
        wait_for_live(sandbox, key, "both to be busy", |live| live.state == LiveState::Busy);
        let refused = fault(sandbox, &["resume", key], 4);
        assert_eq!(refused.code, FaultCode::Busy, "{refused:?}");
    }
}

/// A project that was renamed together with its folder of transcripts.
#[test]
fn a_renamed_project_keeps_its_sessions() {
    let sandbox = sandbox();
    let (old, home) = (sandbox.dir("old"), sandbox.home().join(".claude"));
    let file = write_claude(&home, &old, 1);
    found(&sandbox);
    let before = show(&sandbox, &id(1));
    answer(&sandbox, &["key", "bind", "@mine", &before.id]);
    let new = sandbox.home().join("new");
    fs::rename(&old, &new).unwrap();
    fs::rename(file.parent().unwrap(), home.join("projects").join(munged(&new))).unwrap();
    assert_eq!(found(&sandbox), [id(1)]);
    let after = show(&sandbox, "@mine");
    assert_eq!((&after.id, after.status), (&before.id, Status::Active));
    let plan = plan(&sandbox, &before.id);
    assert!(plan.contains(new.to_str().unwrap()), "{plan}");
}
