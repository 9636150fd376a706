//! Promise: what cannot be read on a disk hides nothing but itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use sessd_proto::Status;
use sessd_proto::doctor::{DoctorReport, Finding};
use sessd_tests::sandbox::Sandbox;

use crate::BINARIES;
use crate::scene::{NEVER, all_sessions, answer, check, run_job, show, verdict};

/// A machine on which only `sessctl jobs run discovery` looks for changes.
pub(crate) fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
    sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
    sandbox.set_env("SESSD_HEARTBEAT_SCHEDULE", NEVER);
    sandbox
}

pub(crate) fn id(number: u32) -> String {
    format!("bbbbbbbb-0000-7000-8000-{number:012}")
}

/// The folder of Claude Code's transcripts of a directory.
pub(crate) fn munged(directory: &Path) -> String {
    let path = directory.to_str().unwrap();
    path.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// A transcript of Claude Code that was started in this directory.
pub(crate) fn claude(directory: &Path, prompt: &str) -> String {
    let record = json!({
        "type": "user", "uuid": "u", "timestamp": "2026-11-21T08:00:00.000Z", "cwd": directory,
        "entrypoint": "cli", "message": { "role": "user", "content": prompt },
    });
    format!("{record}\n")
}

/// Writes a transcript of Claude Code for a directory into one of its homes.
pub(crate) fn write_claude(home: &Path, directory: &Path, number: u32) -> PathBuf {
    let folder = home.join("projects").join(munged(directory));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}.jsonl", id(number)));
    fs::write(&path, claude(directory, &format!("prompt {number}"))).unwrap();
    path
}

fn write_codex(sandbox: &Sandbox, day: &str, number: u32) {
    let meta = json!({
        "timestamp": "2026-11-21T08:00:00.000Z", "type": "session_meta",
        "payload": {
            "id": id(number), "cwd": sandbox.home(), "source": "cli", "originator": "codex_cli",
            "timestamp": "2026-11-21T08:00:00.000Z", "cli_version": "0.171.0",
        },
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
pub(crate) fn found(sandbox: &Sandbox) -> Vec<String> {
    run_job(sandbox, "discovery");
    let ids = all_sessions(sandbox).into_iter().filter_map(|it| it.provider_session_id);
    let mut ids: Vec<String> = ids.collect();
    ids.sort_unstable();
    ids
}

pub(crate) fn findings(sandbox: &Sandbox) -> Vec<Finding> {
    let output = sandbox.sessctl(&["--json", "doctor"]);
    serde_json::from_str::<DoctorReport>(&output.stdout).unwrap().findings
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
