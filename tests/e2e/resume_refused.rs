//! Promise: `sessctl resume` starts nothing for a session that its CLI would refuse or silently
//! begin again; the exit code and the reason tell why, the hint tells what to do.

use std::fs;
use std::path::Path;

use sessd_proto::{Fault, FaultCode, Status};
use sessd_tests::real_cli::{self, Claude, Codex, RealCli};
use sessd_tests::tree::{files_below, tree_hash};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::scene::{QUICK, Scene, check, fault, verdict};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";

/// The CLI starts a new session instead and says that it went well.
#[test]
fn trap_01_codex_is_never_started_with_a_malformed_id() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let id = scene.one_shot("alpha question").session_id;
    let run = scene.run(&Codex.one_shot_arguments(Some("not-a-uuid"), "beta question"), None);
    let begins = Codex.parse(&run.stdout).is_some_and(|it| it.session_id != "not-a-uuid");
    scene.premise("codex begins another session for an id that is none", begins);

    let rollout = Codex.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    let text = fs::read_to_string(&rollout).unwrap().replace(&id, "not-a-uuid");
    let name = rollout.file_name().unwrap().to_str().unwrap().replace(&id, "not-a-uuid");
    fs::write(rollout.with_file_name(name), text).unwrap();
    let before = files_below(&scene.home().join("sessions")).len();
    let found = check(&scene.sandbox, &scene.session("not-a-uuid").id);
    assert_eq!(verdict(&found), (Status::Invalid, Some("malformed_id")));
    let calls = scene.replace_cli();
    for arguments in [&["resume", &found.id][..], &["resume", "--force", &found.id]] {
        let Fault { code, message, .. } = fault(&scene.sandbox, arguments, 5);
        assert_eq!(code, FaultCode::NotResumable);
        assert!(message.ends_with(": malformed_id"), "{message}");
    }
    assert_eq!(calls.seen(), [""; 0]);
    assert_eq!(files_below(&scene.home().join("sessions")).len(), before);
}

/// Neither is a prompt sent: no model is asked, and nothing is created.
#[test]
fn resume_refuses_what_is_gone_and_what_cannot_be_told() {
    for cli in real_cli::ALL {
        let Some(scene) = Scene::row(cli, QUICK) else { continue };
        let gone = scene.one_shot("alpha question").session_id;
        let lost = scene.one_shot("beta question").session_id;
        let [gone_id, lost_id] = [&gone, &lost].map(|id| scene.session(id).id);
        cli.forget(&scene.sandbox, &scene.project, &gone);
        let calls = scene.replace_cli();
        let Fault { code, message, .. } = fault(&scene.sandbox, &["resume", &gone_id], 5);
        assert_eq!(code, FaultCode::NotResumable);
        assert!(message.ends_with(": transcript_missing"), "{message}");
        let (asked, store) = (scene.server.requests().len(), tree_hash(&scene.home()));
        let refused = fault(&scene.sandbox, &["send", &gone_id, "gamma question"], 5);
        assert_eq!(refused.code, FaultCode::NotResumable, "{refused:?}");
        assert!(refused.hint.is_some_and(|hint| hint.contains("--fallback new")));
        assert_eq!(scene.server.requests().len(), asked);
        tree_hash(&scene.home()).assert_same_as(&store);

        fs::rename(scene.home(), scene.sandbox.home().join("away")).unwrap();
        let Fault { code, message, hint, .. } = fault(&scene.sandbox, &["resume", &lost_id], 6);
        assert_eq!(code, FaultCode::StatusUnknown);
        assert!(message.ends_with(": home_missing"), "{message}");
        assert!(hint.unwrap().contains("--force"));
        assert_eq!(calls.seen(), [""; 0]);
        let forced = scene.sandbox.sessctl(&["resume", "--force", &lost_id]);
        assert_eq!(forced.status, 0, "{forced:#?}");
        let call = calls.seen().concat();
        assert!(call.starts_with(scene.provider()) && call.contains(&lost), "{call}");
    }
}

#[test]
fn resume_without_its_directory_asks_for_one_where_possible() {
    for cli in real_cli::ALL {
        // Gemini CLI finds a session in its own directory only.
        let Some(scene) = Scene::row(cli, &[QUICK, &["gemini"]].concat()) else { continue };
        let asked = scene.one_shot("alpha question").session_id;
        let id = scene.session(&asked).id;
        fs::rename(&scene.project, scene.sandbox.home().join("moved")).unwrap();
        let found = check(&scene.sandbox, &id);
        assert_eq!(verdict(&found), (Status::Invalid, Some("directory_missing")));
        assert_eq!(Path::new(&found.project), scene.project);
        let Fault { code, hint, .. } = fault(&scene.sandbox, &["resume", &id], 5);
        assert_eq!(code, FaultCode::DirectoryMissing);
        let elsewhere = scene.elsewhere.to_str().unwrap();
        if scene.resumes_anywhere() {
            assert!(hint.unwrap().contains("--cwd DIR"));
            resumes_elsewhere(&scene, &asked, &id);
        } else {
            assert!(hint.unwrap().contains("mkdir -p"));
            let refused = fault(&scene.sandbox, &["resume", "--cwd", elsewhere, &id], 1);
            assert_eq!(refused.code, FaultCode::Unsupported);
        }
    }
}

/// Claude Code before 2.1.3 knows an id only in its own project, a transcript's path anywhere.
#[test]
fn trap_05_claude_is_resumed_elsewhere_by_path() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    // Asked of another session, as it would go on with it.
    let other = scene.one_shot("of no interest").session_id;
    let arguments = Claude.one_shot_arguments(Some(&other), "beta question");
    let mut command = scene.sandbox.command("claude");
    let run = scene.sandbox.run(command.args(arguments).current_dir(&scene.elsewhere), DEADLINE);
    scene.premise("claude knows an id only in its project", run.status == 1);
    resumes_elsewhere(&scene, &asked, &id);
}

/// It opens with its history, and goes on in the same transcript.
fn resumes_elsewhere(scene: &Scene, asked: &str, id: &str) {
    let transcript = scene.cli.transcript(&scene.sandbox, &scene.project, asked).unwrap();
    let before = files_below(transcript.parent().unwrap()).len();
    let elsewhere = scene.elsewhere.to_str().unwrap();
    let mut terminal = scene.resume(&["--cwd", elsewhere, id], &scene.sandbox.home());
    terminal.wait_for_text(ALPHA, DEADLINE);
    let cwd = fs::read_link(format!("/proc/{}/cwd", terminal.pid())).unwrap();
    assert_eq!(cwd, scene.elsewhere);
    scene.cli.prompt(&terminal, "beta question");
    terminal.wait_for_text("FAKE turns=2 first='alpha question' last='beta question'", DEADLINE);
    scene.cli.quit(&mut terminal);
    let text = fs::read_to_string(&transcript).unwrap();
    assert!(text.contains("beta question"), "the turn is in another transcript");
    assert_eq!(files_below(transcript.parent().unwrap()).len(), before);
    let moved = wait_until("the directory it last worked in", DEADLINE, || {
        Some(scene.session(asked)).filter(|found| found.cwd.as_deref() == Some(elsewhere))
    });
    assert_eq!(moved.id, id);
}
