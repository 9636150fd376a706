//! Promise: a prompt reaches any session of any CLI, one at a time, and what went wrong is said
//! without a change to the session.

use std::path::Path;
use std::thread;

use sessd_proto::Status;
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Output;
use sessd_tests::wait::DEADLINE;

use crate::bad_input::assert_fault;
use crate::scene::{Scene, answer, sessions, show};
use crate::{BINARIES, CURSOR};

#[test]
fn turns_of_claude_go_on_and_fail_honestly() {
    goes_on(&Claude);
}

#[test]
fn turns_of_codex_go_on_and_fail_honestly() {
    goes_on(&Codex);
}

#[test]
fn turns_of_gemini_go_on_and_fail_honestly() {
    goes_on(&Gemini);
}

#[test]
fn turns_of_qwen_go_on_and_fail_honestly() {
    goes_on(&Qwen);
}

#[test]
fn turns_of_cursor_go_on_and_fail_honestly() {
    goes_on(CURSOR);
}

#[test]
fn turns_of_opencode_go_on_and_fail_honestly() {
    goes_on(&OPENCODE);
}

#[test]
fn turns_of_kilo_go_on_and_fail_honestly() {
    goes_on(&KILO);
}

/// `sessctl send …` in a directory.
fn send(scene: &Scene, cwd: &Path, words: &[&str]) -> Output {
    let mut command = scene.sandbox.command(BINARIES.sessctl);
    command.arg("send").args(words).current_dir(cwd);
    scene.sandbox.run(&mut command, DEADLINE)
}

#[track_caller]
fn assert_said(output: &Output, count: usize, last: &str) {
    let said = format!("FAKE turns={count} first='alpha question' last='{last}'\n");
    assert_eq!((output.status, &*output.stdout), (0, &*said), "{}", output.stderr);
}

fn goes_on(cli: &'static dyn RealCli) {
    let Some(mut scene) = Scene::of(cli) else { return };
    // No turn of a test takes so long, but for the one that never ends.
    scene.sandbox.set_env("SESSD_TURNS_DEADLINE_S", "30");
    let first = send(&scene, &scene.project, &["--new", scene.provider(), "alpha question"]);
    assert_said(&first, 1, "alpha question");
    let id = first.stderr.trim_end().strip_prefix("session: ").expect("its id").to_owned();
    assert_said(&send(&scene, &scene.project, &[&id, "beta question"]), 2, "beta question");
    answer(&scene.sandbox, &["daemon", "restart"]);
    assert_said(&send(&scene, &scene.elsewhere, &[&id, "gamma question"]), 3, "gamma question");
    let theirs = show(&scene.sandbox, &id).provider_session_id.unwrap();
    assert!(cli.transcript(&scene.sandbox, &scene.project, &theirs).is_some());
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 1, "it is there twice");
    two_at_once(&scene, &id);
    for (unknown, status) in [("01a1fd45-0cd8-7000-8000-000000000000", 3), ("not-an-id", 3)] {
        assert_fault(&send(&scene, &scene.project, &[unknown, "nobody"]), status, unknown);
    }
    fails_honestly(&scene, &id);
}

/// Each is one turn, and one of them sees the other.
fn two_at_once(scene: &Scene, id: &str) {
    let before = scene.server.turn_requests().len();
    let prompts = ["delta question", "epsilon question"];
    let mut said: Vec<String> = thread::scope(|scope| {
        let send = |prompt| scope.spawn(move || send(scene, &scene.project, &[id, prompt]));
        let outputs = prompts.map(send).map(|it| it.join().unwrap());
        outputs
            .into_iter()
            .map(|output| {
                assert_eq!(output.status, 0, "{output:?}");
                output.stdout.split(' ').nth(1).unwrap().to_owned()
            })
            .collect()
    });
    said.sort();
    assert_eq!(said, ["turns=4", "turns=5"]);
    assert_eq!(scene.server.turn_requests().len(), before + 2, "a prompt was sent twice");
}

/// What fails changes neither the session nor its status, and the next turn works.
fn fails_honestly(scene: &Scene, id: &str) {
    // Some try again for minutes.
    let refusal = match scene.provider() {
        "gemini" => None,
        "qwen" | "opencode" | "kilo" => Some("401"),
        _ => Some("429"),
    };
    if let Some(status) = refusal {
        let prompt = format!("zeta [[status {status}]]");
        let refused = send(scene, &scene.project, &[id, &prompt]);
        assert_eq!((refused.status, &*refused.stdout), (6, ""), "{refused:?}");
        assert!(refused.stderr.contains(status), "{}", refused.stderr);
    }
    let hanging = send(scene, &scene.project, &[id, "eta [[sleep 600]]"]);
    assert_eq!((hanging.status, &*hanging.stdout), (7, ""), "{hanging:?}");
    let session = show(&scene.sandbox, id);
    assert_eq!(session.status, Status::Active);
    if scene.provider() == "gemini" {
        // It sends the unanswered prompt once more with the next one, so that hangs too.
        return;
    }
    let last = send(scene, &scene.project, &[id, "theta question"]);
    assert_eq!(last.status, 0, "{last:?}");
    assert!(last.stdout.contains("last='theta question'"), "{last:?}");
}
