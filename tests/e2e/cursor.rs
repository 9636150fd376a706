//! Promise: a chat of the Cursor CLI that is gone is never replaced in silence, wherever its
//! store is, and its key is never shown. Against our stand-in, which has the traps.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process_group};
use sessd_proto::{FaultCode, LiveState, Session, Status};
use sessd_tests::real_cli::RealCli;
use sessd_tests::sandbox::Output;
use sessd_tests::tree::tree_hash;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::CURSOR;
use crate::bad_input::assert_fault;
use crate::scene::{
    Scene, check, copy, fault, run_job, sessions, show, variable_of, verdict, wait_for_live,
};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";

/// A secret that is in every store and must be nowhere else.
const SECRET: &str = "KEY-THAT-MUST-NEVER-BE-SEEN";

fn scene() -> Scene {
    Scene::of(CURSOR).expect("the stand-in is always there")
}

/// A chat with one turn: the provider's id, ours, and its folder.
fn one_chat(scene: &Scene) -> (String, String, PathBuf) {
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let store = CURSOR.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
    (asked, id, store.parent().unwrap().to_owned())
}

fn send(scene: &Scene, words: &[&str]) -> Output {
    scene.sandbox.sessctl(&[&["send"], words].concat())
}

/// The provider failed, after the session was named and maybe something said.
#[track_caller]
fn assert_failed(output: &Output, why: &str) {
    assert!(output.status == 6 && output.stderr.contains(why), "{output:?}");
}

/// The trap itself first: the CLI says that all is well and remembers nothing.
#[test]
fn a_deleted_chat_is_not_resumed_and_its_successor_is_new() {
    let scene = scene();
    let (asked, id, folder) = one_chat(&scene);
    scene.one_shot("of no interest");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(verdict(&check(&scene.sandbox, &id)), (Status::Expired, Some("transcript_missing")));
    let calls = scene.replace_cli();
    assert_fault(&send(&scene, &[&id, "beta question"]), 5, "transcript_missing");
    fault(&scene.sandbox, &["resume", &id], 5);
    assert_eq!(calls.seen(), [""; 0]);

    scene.sandbox.link(scene.program(), Path::new(CURSOR.program));
    let trap = CURSOR.one_shot_resume(&scene.sandbox, &scene.project, &asked, "beta question");
    let begins = trap.session_id == asked && trap.text.contains("turns=1");
    scene.premise("cursor begins an empty chat under the id of one that is gone", begins);
    let found = check(&scene.sandbox, &id);
    assert_eq!(verdict(&found), (Status::Invalid, Some("begun_anew")));
    run_job(&scene.sandbox, "discovery");
    let with_id = |it: &Session| it.provider_session_id.as_ref() == Some(&asked);
    let listed = sessions(&scene.sandbox, &["list"]);
    assert_eq!(listed.iter().filter(|it| with_id(it)).count(), 2, "{listed:#?}");
    assert_eq!(show(&scene.sandbox, &id).title.as_deref(), Some("alpha question"));
    assert_fault(&send(&scene, &[&id, "gamma question"]), 5, "begun_anew");
}

/// The store vanishes after the check and before the CLI opens it.
#[test]
fn an_answer_from_an_empty_chat_is_not_a_success() {
    let scene = scene();
    let (_, id, folder) = one_chat(&scene);
    let thief =
        format!("#!/bin/sh\nrm -r '{}'\nexec '{}' \"$@\"\n", folder.display(), CURSOR.program);
    let program = scene.sandbox.script("thief", thief);
    scene.sandbox.link(scene.program(), &program);
    let sent = send(&scene, &[&id, "beta question"]);
    assert_failed(&sent, "answered in an empty one");
    assert_eq!(scene.server.turn_requests().len(), 2, "the turn itself was to work");
    assert_eq!(verdict(&check(&scene.sandbox, &id)), (Status::Invalid, Some("begun_anew")));
}

#[test]
fn verdicts_of_cursor_are_those_of_its_stores() {
    let mut scene = scene();
    // No process reads a store while the test damages it.
    scene.sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
    let (_, id, folder) = one_chat(&scene);
    scene.one_shot("of no interest");
    let store = folder.join("store.db");
    let whole = scene.sandbox.home().join("whole.db");
    copy(&store, &whole);
    let empty = (Status::Invalid, Some("empty_transcript"));
    for (damage, expected) in [
        ("SELECT 1", (Status::Active, None)),
        ("DELETE FROM meta", empty),
        ("DELETE FROM blobs", empty),
        ("DROP TABLE blobs", (Status::Unknown, Some("transcript_unreadable"))),
    ] {
        fs::copy(&whole, &store).unwrap();
        Connection::open(&store).unwrap().execute_batch(damage).unwrap_or_default();
        let before = tree_hash(&scene.home());
        assert_eq!(verdict(&check(&scene.sandbox, &id)), expected, "{damage}");
        tree_hash(&scene.home()).assert_same_as(&before);
    }
    fs::write(&store, "no database, however long one looks at it").unwrap();
    let found = check(&scene.sandbox, &id);
    assert_eq!(verdict(&found), (Status::Unknown, Some("transcript_unreadable")));
    fs::remove_file(&store).unwrap();
    let gone = (Status::Expired, Some("transcript_missing"));
    assert_eq!(verdict(&check(&scene.sandbox, &id)), gone);
    fs::rename(scene.home().join("chats"), scene.sandbox.home().join("away")).unwrap();
    let found = check(&scene.sandbox, &id);
    assert_eq!(verdict(&found), (Status::Unknown, Some("home_missing")));
}

/// Which of them the CLI uses depends on the shell and on its version.
#[test]
fn chats_are_found_in_every_place_and_resumed_in_theirs() {
    let scene = scene();
    let (of_default, id, _) = one_chat(&scene);
    let home = scene.sandbox.home();
    let others = [home.join(".config/cursor"), home.join("chosen")];
    let asked = others.clone().map(|place| {
        let variable = Some(("CURSOR_CONFIG_DIR", place.to_str().unwrap()));
        let run = scene.run(&CURSOR.one_shot_arguments(None, "delta question"), variable);
        CURSOR.answer(run).session_id
    });
    scene.sandbox.write(
        ".config/sessd/config.toml",
        format!("[homes]\ncursor = [{:?}]\n", others[1].to_str().unwrap()),
    );
    assert_eq!(scene.sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let places = [scene.home(), others[0].clone(), others[1].clone()];
    for (asked, place) in [&of_default, &asked[0], &asked[1]].into_iter().zip(places) {
        let found = wait_until("a chat in every place", DEADLINE, || scene.find(asked));
        assert_eq!(Path::new(&found.home), place);
        let mut terminal = scene.resume(&[&found.id], &scene.elsewhere);
        terminal.wait_for_text("FAKE turns=1", DEADLINE);
        let selected = variable_of(terminal.pid(), "CURSOR_CONFIG_DIR");
        assert_eq!(selected.as_deref(), place.to_str());
        CURSOR.quit(&mut terminal);
    }
    assert_eq!(show(&scene.sandbox, &id).provider_session_id, Some(of_default));
}

/// The log of its store is filled for the whole of a turn; a kill leaves it behind.
#[test]
fn live_cursor_at_work_is_seen() {
    let scene = scene();
    let (asked, id, folder) = one_chat(&scene);
    assert_eq!(show(&scene.sandbox, &id).live.state, LiveState::None);
    let mut child = at_work(&scene, &asked);
    let busy = wait_for_live(&scene.sandbox, &id, "a chat at work", |live| {
        live.state == LiveState::Busy && live.pid == Some(child.id())
    });
    assert!(busy.since.is_some() && busy.what.unwrap().contains("cursor-agent"));
    let before = tree_hash(&folder);
    let refused = fault(&scene.sandbox, &["resume", &id], 4);
    assert!(refused.message.contains(&child.id().to_string()), "{}", refused.message);
    assert_eq!(send(&scene, &[&id, "gamma question"]).status, 4);
    tree_hash(&folder).assert_same_as(&before);

    kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert!(folder.join("store.db-wal").metadata().unwrap().len() > 0);
    wait_for_live(&scene.sandbox, &id, "a free session after a kill", |live| {
        live.state == LiveState::None
    });
    let before = tree_hash(&folder);
    assert_eq!(verdict(&check(&scene.sandbox, &id)), (Status::Active, None));
    tree_hash(&folder).assert_same_as(&before);
    let sent = send(&scene, &[&id, "gamma question"]);
    assert!(sent.stdout.contains("turns=2"), "{sent:?}");
}

/// A one-shot run, in a process group of its own, whose model does not answer; it asks only when
/// it has written down what it asks.
fn at_work(scene: &Scene, asked: &str) -> Child {
    let mut command = scene.sandbox.command(scene.program());
    command.args(CURSOR.one_shot_arguments(Some(asked), "beta [[sleep 600]]"));
    command.current_dir(&scene.project).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let asked = scene.server.turn_requests().len();
    let child = command.spawn().unwrap();
    wait_until("a question to the model", DEADLINE, || {
        (scene.server.turn_requests().len() > asked).then_some(())
    });
    child
}

#[test]
fn resume_of_cursor_goes_on_in_another_directory() {
    let scene = scene();
    let (_, id, folder) = one_chat(&scene);
    fs::rename(&scene.project, scene.sandbox.home().join("moved")).unwrap();
    let found = check(&scene.sandbox, &id);
    assert_eq!(verdict(&found), (Status::Invalid, Some("directory_missing")));
    let elsewhere = scene.elsewhere.to_str().unwrap();
    let mut terminal = scene.resume(&["--cwd", elsewhere, &id], &scene.sandbox.home());
    terminal.wait_for_text(ALPHA, DEADLINE);
    CURSOR.prompt(&terminal, "beta question");
    terminal.wait_for_text("FAKE turns=2 first='alpha question'", DEADLINE);
    CURSOR.quit(&mut terminal);
    assert!(folder.join("store.db").exists());
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 1);
}

/// To trust a directory is for a person to decide, or for an agent that says so.
#[test]
fn a_directory_that_is_not_trusted_is_a_fault_that_says_so() {
    let scene = scene();
    let strange = scene.sandbox.dir("strange");
    let new = |agent: &str| {
        let cwd = strange.to_str().unwrap();
        send(&scene, &["--new", agent, "--cwd", cwd, "alpha question"])
    };
    assert_failed(&new("cursor"), "Workspace Trust Required");
    assert_eq!(scene.server.requests().len(), 0);
    let agent = "[agents.brave]\nprovider = 'cursor'\nargs = ['--trust']\n";
    scene.sandbox.write(".config/sessd/config.toml", agent);
    assert_eq!(scene.sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_eq!(new("brave").stdout, format!("{ALPHA}\n"));
}

/// The prompt is an argument there: nothing in it is taken for an option, and too much is refused
/// before anything is written down.
#[test]
fn prompts_are_arguments_that_mean_nothing_else() {
    let scene = scene();
    let (_, id, _) = one_chat(&scene);
    let prompt = scene.sandbox.write("prompt", "--trust is not an option here");
    let piped = |file: &Path| {
        let script = format!("exec \"$0\" send {id} - <'{}'", file.display());
        let mut command = scene.sandbox.command("sh");
        scene.sandbox.run(command.args(["-c", &script, crate::BINARIES.sessctl]), DEADLINE)
    };
    let sent = piped(&prompt);
    assert!(sent.stdout.contains("last='--trust is not an option here'"), "{sent:?}");
    let asked = scene.server.turn_requests().len();
    let long = scene.sandbox.write("long", "x".repeat(128 * 1024));
    assert_fault(&piped(&long), 2, "128 KiB");
    assert_eq!(scene.server.turn_requests().len(), asked);
}

#[test]
fn the_key_of_a_chat_is_never_shown() {
    let scene = scene();
    let (_, id, folder) = one_chat(&scene);
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let store = fs::read(folder.join("store.db")).unwrap();
    assert!(has(&store, &hex), "the test looks for what is not there");
    send(&scene, &[&id, "beta question"]);
    for arguments in [&["show", &id][..], &["list"], &["check", &id], &["resume", "--plan", &id]] {
        for form in [&["--json"][..], &[]] {
            let output = scene.sandbox.sessctl(&[form, arguments].concat());
            let said = output.stdout + &output.stderr;
            assert!(!said.contains(SECRET) && !said.contains(&hex), "{arguments:?}");
        }
    }
    assert_eq!(fault(&scene.sandbox, &["resume", "no-such-id"], 3).code, FaultCode::NotFound);
    for file in sessd_tests::tree::files_below(&scene.sandbox.state_dir()) {
        let bytes = fs::read(&file).unwrap_or_default();
        assert!(!has(&bytes, SECRET) && !has(&bytes, &hex), "{}", file.display());
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
