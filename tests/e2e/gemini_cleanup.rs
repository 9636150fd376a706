//! Promise: conversations that sessd runs survive the cleanup of Gemini CLI, which deletes at each
//! start what it cannot continue, and with it every file whose name ends alike.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use sessd_proto::doctor::DoctorReport;
use sessd_proto::{Reason, Status};
use sessd_tests::real_cli::{Gemini, RealCli};
use sessd_tests::rounds;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::scene::{Scene, answer, check, run_job, show, verdict};

/// The files of chats in the project's folder.
fn chats(scene: &Scene) -> Vec<PathBuf> {
    let files = sessd_tests::tree::files_below(&scene.home().join("tmp"));
    let is_chat = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("session-"))
    };
    files.into_iter().filter(is_chat).collect()
}

/// Renames every chat to a minute that is long past: its next resume comes in a later minute.
fn let_a_minute_pass(scene: &Scene) {
    static RENAMED: AtomicUsize = AtomicUsize::new(0);
    for path in chats(scene) {
        // No name is given twice.
        let at = RENAMED.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap().to_str().unwrap();
        let end = name.len() - name.split_once("T").unwrap().1.len() + "00-00".len();
        let name = format!("session-2020-01-01T{:02}-{:02}{}", at / 60, at % 60, &name[end..]);
        fs::rename(&path, path.with_file_name(name)).unwrap();
    }
    run_job(&scene.sandbox, "discovery");
}

/// A start of the user's own.
fn start(scene: &Scene, arguments: &[&str]) {
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let run = scene.run(&arguments, None);
    assert_eq!(run.status, 0, "{arguments:?}: {run:#?}");
}

/// A prompt to a session; returns the model's count of turns.
fn send(scene: &Scene, words: &[&str]) -> String {
    let project = scene.project.to_str().unwrap();
    let is_new = words.contains(&"--agent");
    let place: &[&str] = if is_new { &["--cwd", project] } else { &[] };
    let sent = answer(&scene.sandbox, &[&["send"], place, words].concat());
    sent["text"].as_str().unwrap().to_owned()
}

#[test]
fn conversations_of_ours_survive_any_start_of_the_cli() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let kept = scene.sandbox.home().join("kept.jsonl");
    let old = ["1", "2"].map(|at| format!("abcdabcd-0000-4000-8000-00000000000{at}"));
    for id in &old {
        let session = format!("--session-id={id}");
        start(&scene, &["--output-format=json", &session, "--prompt=alpha question"]);
        // The start of the second would delete the first.
        if !kept.exists() {
            fs::rename(&chats(&scene)[0], &kept).unwrap();
        }
    }
    fs::rename(&kept, chats(&scene)[0].with_file_name("session-2019-01-01T00-00-abcdabcd.jsonl"))
        .unwrap();
    let keys = ["@gem:1", "@gem:2"];
    for key in keys {
        send(&scene, &[key, "--agent", "gemini", "alpha question"]);
        let ours = show(&scene.sandbox, key);
        let theirs = ours.provider_session_id.unwrap();
        assert!(theirs[..8].contains('_') && theirs != ours.id, "{theirs}");
        assert_eq!(show(&scene.sandbox, &theirs).id, ours.id);
    }
    let starts: [&[&str]; 5] = [
        &["--list-sessions"],
        &["mcp", "list"],
        &["--output-format=json", "--prompt=another question"],
        &["--list-sessions"],
        &["mcp", "list"],
    ];
    let mut starts = starts.iter();
    for round in 0..rounds(2, 3) {
        for session in keys.into_iter().chain(old.iter().map(String::as_str)) {
            let_a_minute_pass(&scene);
            let said = send(&scene, &[session, "beta question"]);
            let turns = format!("turns={} first='alpha question'", round + 2);
            assert!(said.contains(&turns), "{session}: {said}");
            if let Some(arguments) = starts.next() {
                start(&scene, arguments);
            }
            assert_eq!(verdict(&check(&scene.sandbox, session)), (Status::Active, None));
        }
    }
}

#[test]
fn chat_that_the_cli_will_delete_is_announced_or_rescued() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let theirs = ["alpha question", "beta question"].map(|it| scene.one_shot(it).session_id);
    let [rescued, lost] = theirs.clone().map(|id| scene.session(&id).id);
    let doom = |id: &str| {
        let_a_minute_pass(&scene);
        scene.cli.one_shot_resume(&scene.sandbox, &scene.project, id, "gamma question");
        run_job(&scene.sandbox, "discovery");
    };
    let assert_doomed = |id: &str| {
        let doomed = (Status::Active, Some(Reason::DeletedAtNextStart.as_str()));
        let session = show(&scene.sandbox, id);
        assert_eq!(verdict(&session), doomed);
        assert!(session.expires_at.is_some_and(|at| at <= session.checked_at.unwrap()));
        assert_eq!(verdict(&check(&scene.sandbox, id)), doomed);
        assert!(doctor(&scene).contains(&format!("the session {} (", &id[..8])));
    };
    doom(&theirs[0]);
    assert_doomed(&rescued);
    // A prompt removes the stub of its own session.
    assert!(send(&scene, &[&rescued, "delta question"]).contains("turns=3"));
    assert_eq!(verdict(&check(&scene.sandbox, &rescued)), (Status::Active, None));
    assert!(doctor(&scene).contains("put it back as it was: `cp "));
    doom(&theirs[1]);
    assert_doomed(&lost);
    start(&scene, &["--list-sessions"]);
    assert!(Gemini.transcript(&scene.sandbox, &scene.project, &theirs[1]).is_none(), "the trap");
    // The CLI may leave the stub, which it cannot resume.
    assert_ne!(check(&scene.sandbox, &lost).status, Status::Active);
    assert!(send(&scene, &[&rescued, "again"]).contains("turns=4 first='alpha question'"));
}

fn doctor(scene: &Scene) -> String {
    let output = scene.sandbox.sessctl(&["--json", "doctor"]);
    let report: DoctorReport = serde_json::from_str(&output.stdout).unwrap();
    let text = |finding: sessd_proto::doctor::Finding| {
        format!("{} {}\n", finding.message, finding.hint.unwrap_or_default())
    };
    report.findings.into_iter().map(text).collect()
}

/// Made by a version that names folders by a hash.
#[test]
fn chat_of_an_old_folder_is_resumed_and_listed_once() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let project = scene.project.to_str().unwrap();
    let mut hash = scene.sandbox.command("sh");
    hash.args(["-c", "printf %s \"$0\" | sha256sum | cut -c-64", project]);
    let hash = scene.sandbox.run(&mut hash, DEADLINE).stdout.trim().to_owned();
    let id = "aaaaaaaa-0000-4000-8000-000000000001";
    let at = |second| format!("2026-11-30T10:00:{second:02}.000Z");
    let chat = serde_json::json!({
        "sessionId": id, "projectHash": hash, "startTime": at(0), "lastUpdated": at(9),
        "messages": [
            {"id": "u", "timestamp": at(1), "type": "user", "content": "old question"},
            {"id": "g", "timestamp": at(9), "type": "gemini", "content": "ok", "model": "m"},
        ],
    });
    let name = format!(".gemini/tmp/{hash}/chats/session-2026-11-30T10-00-{}.json", &id[..8]);
    scene.sandbox.write(&name, chat.to_string());
    let trusted = scene.sandbox.home().join(".gemini/trustedFolders.json");
    let kept = scene.sandbox.home().join("kept.json");
    fs::rename(&trusted, &kept).unwrap();
    let unknown = scene.session(id);
    let reason = Some(Reason::DirectoryUnknown.as_str());
    assert_eq!(verdict(&unknown), (Status::Unknown, reason));
    let mut resume = scene.sandbox.command(BINARIES.sessctl);
    resume.args(["resume", "--plan", &unknown.id]).current_dir(&scene.elsewhere);
    let refused = scene.sandbox.run(&mut resume, DEADLINE);
    assert!(refused.stderr.contains("start gemini once in that directory"), "{refused:?}");
    resume.args(["--cwd", project]);
    let named = scene.sandbox.run(&mut resume, DEADLINE);
    assert_eq!(named.status, 0, "{named:?}");
    fs::rename(&kept, &trusted).unwrap();
    assert_eq!(verdict(&check(&scene.sandbox, &unknown.id)), (Status::Active, None));
    let said = send(&scene, &[&unknown.id, "beta question"]);
    assert!(said.contains("turns=2 first='old question'"), "{said}");
    run_job(&scene.sandbox, "discovery");
    let listed = crate::scene::sessions(&scene.sandbox, &["list", "--all"]);
    let [one] = &listed[..] else { panic!("listed {} times", listed.len()) };
    assert_eq!((&*one.id, one.status), (&*unknown.id, Status::Active));
}
