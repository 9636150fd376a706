//! Promise: a prompt reaches any session of any CLI, one at a time, and what went wrong is said
//! without a change to the session.

use std::fs;
use std::path::Path;
use std::thread;

use sessd_proto::Status;
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Output;
use sessd_tests::tree::tree_hash;
use sessd_tests::wait::DEADLINE;

use crate::bad_input::assert_fault;
use crate::mid_answer::{is_cancelled, outlives_its_sender};
use crate::scene::{QUICK, Scene, answer, sessions, show};
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
    let Some(scene) = Scene::row(cli, QUICK) else { return };
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
    reaches_no_provider(&scene);
    outlives_its_sender(&scene, &id);
    fails_honestly(&scene, &id);
    if matches!(scene.provider(), "claude" | "codex") {
        goes_to_a_copy(&scene, &id);
    }
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
    // Nor is any of them asked for a title, a summary or a route: a turn is one call.
    assert!(scene.server.asides().is_empty(), "{:#?}", scene.server.asides());
}

/// An unknown id is not tried at the CLI, as some begin another session then.
fn reaches_no_provider(scene: &Scene) {
    let (asked, store) = (scene.server.requests().len(), tree_hash(&scene.home()));
    for unknown in ["01a1fd45-0cd8-7000-8000-000000000000", "not-an-id"] {
        assert_fault(&send(scene, &scene.project, &[unknown, "nobody"]), 3, unknown);
    }
    assert_eq!(scene.server.requests().len(), asked);
    tree_hash(&scene.home()).assert_same_as(&store);
}

/// A copy has the context of the original, which has nothing of the copy.
fn goes_to_a_copy(scene: &Scene, id: &str) {
    let copied = send(scene, &scene.elsewhere, &["--fork", id, "lambda question"]);
    assert_eq!(copied.status, 0, "{copied:?}");
    let said = &copied.stdout;
    assert!(said.contains("first='alpha question' last='lambda question'"), "{said}");
    let copy = copied.stderr.trim_end().strip_prefix("session: ").expect("its id");
    assert_eq!(show(&scene.sandbox, copy).parent_id.as_deref(), Some(id));
    let of = |id: &str, prompt: &str| -> usize {
        let said = send(scene, &scene.project, &[id, prompt]).stdout;
        let count = said.strip_prefix("FAKE turns=").and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    assert_eq!(of(copy, "mu question"), of(id, "nu question") + 1);
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 2, "one of them is there twice");
}

/// A failed turn changes neither the session nor its status, and the next turn works.
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
    let hanging = send(scene, &scene.project, &["--timeout", "8s", id, "eta [[sleep 600]]"]);
    assert_eq!((hanging.status, &*hanging.stdout), (7, ""), "{hanging:?}");
    is_cancelled(scene, id);
    let session = show(&scene.sandbox, id);
    assert_eq!(session.status, Status::Active);
    let last = send(scene, &scene.project, &[id, "theta question"]);
    assert_eq!(last.status, 0, "{last:?}");
    assert!(last.stdout.contains("last='theta question'"), "{last:?}");
}

/// Without a model in its settings a model chooses one: that is one more call.
#[test]
fn a_turn_of_gemini_without_a_model_is_two_calls() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let settings = scene.sandbox.home().join(".gemini/settings.json");
    let named = fs::read_to_string(&settings).unwrap();
    let unnamed = named.replace(r#""model":{"name":"gemini-2.5-flash"},"#, "");
    assert_ne!(named, unnamed);
    fs::write(settings, unnamed).unwrap();
    let sent = send(&scene, &scene.project, &["--new", "gemini", "alpha question"]);
    assert_said(&sent, 1, "alpha question");
    assert_eq!((scene.server.turn_requests().len(), scene.server.asides().len()), (1, 1));
}
