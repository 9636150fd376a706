//! Promise: `sessctl resume` opens the real CLI with the earlier conversation, in the session's
//! own directory and home, whatever shell it is typed in, and never twice at a time.

use std::fs;
use std::path::Path;

use sessd_proto::{Fault, FaultCode, LiveState};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::scene::{QUICK, Scene, answer, fault, is_in, sessions, variable_of, wait_for_live};
use crate::{BINARIES, CURSOR};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";
const BETA: &str = "FAKE turns=2 first='alpha question' last='beta question'";

#[test]
fn resume_continues_claude() {
    continues_and_keeps_others_out(&Claude);
}

#[test]
fn resume_continues_codex() {
    continues_and_keeps_others_out(&Codex);
}

#[test]
fn resume_continues_gemini() {
    continues_and_keeps_others_out(&Gemini);
}

#[test]
fn resume_continues_qwen() {
    continues_and_keeps_others_out(&Qwen);
}

#[test]
fn resume_continues_cursor() {
    continues_and_keeps_others_out(CURSOR);
}

#[test]
fn resume_continues_opencode() {
    continues_and_keeps_others_out(&OPENCODE);
}

#[test]
fn resume_continues_kilo() {
    continues_and_keeps_others_out(&KILO);
}

fn continues_and_keeps_others_out(cli: &'static dyn RealCli) {
    Scene::rows(cli, QUICK).for_each(|scene| continues(&scene));
}

fn continues(scene: &Scene) {
    let cli = scene.cli;
    let asked = scene.one_shot("alpha question");
    let id = scene.session(&asked.session_id).id;

    let mut terminal = scene.resume(&[&id], &scene.elsewhere);
    terminal.wait_for_text(ALPHA, DEADLINE);
    assert_eq!(scene.server.turn_requests().len(), 1, "opening a session ran the model");
    let cwd = fs::read_link(format!("/proc/{}/cwd", terminal.pid())).unwrap();
    assert_eq!(cwd, scene.project);
    assert_others_are_kept_out(scene, &id, &terminal);
    answer(&scene.sandbox, &["daemon", "restart"]);
    assert_others_are_kept_out(scene, &id, &terminal);
    cli.prompt(&terminal, "beta question");
    terminal.wait_for_text(BETA, DEADLINE);
    cli.quit(&mut terminal);

    let free = |live: &sessd_proto::Live| !live.blocks();
    let live = wait_for_live(&scene.sandbox, &id, "a session that is free again", free);
    assert_eq!(live.state, if scene.shows_use() { LiveState::None } else { LiveState::Unknown });
    let mut terminal = scene.resume(&["--last"], &scene.project);
    terminal.wait_for_text(BETA, DEADLINE);
    cli.quit(&mut terminal);
}

/// Exit code 4, and a message that says who has it.
fn assert_others_are_kept_out(scene: &Scene, id: &str, terminal: &Terminal) {
    let Fault { code, message, .. } = fault(&scene.sandbox, &["resume", id], 4);
    assert_eq!(code, FaultCode::Busy);
    let (_, who) = message.split_once(" process ").expect(&message);
    let (pid, command) = who.split_once(" (").expect(&message);
    assert!(is_in(pid.parse().unwrap(), terminal.pid()), "{message}");
    assert!(command.contains(scene.provider()), "{message}");
    let busy = sessions(&scene.sandbox, &["list", "--busy"]);
    assert_eq!(busy.iter().map(|session| &*session.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn resume_picks_from_the_sessions_of_the_project() {
    let Some(scene) = Scene::of(&Claude) else { return };
    scene.one_shot("alpha question");
    Claude.one_shot(&scene.sandbox, &scene.project, "gamma question");
    Claude.one_shot(&scene.sandbox, &scene.elsewhere, "delta question");
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 3);

    let mut terminal = scene.resume(&[], &scene.project);
    terminal.wait_for_text("gamma question", DEADLINE);
    terminal.wait_for_text("alpha question", DEADLINE);
    assert!(!terminal.screen().contains("delta question"), "{}", terminal.screen());
    terminal.type_text("alpha");
    terminal.key(Key::Enter);
    terminal.wait_for_text(ALPHA, DEADLINE);
    Claude.quit(&mut terminal);

    // The home directory has no session of its own, so there are those of all projects.
    let terminal = scene.resume(&[], &scene.sandbox.home());
    terminal.wait_for_text("delta question", DEADLINE);
    terminal.wait_for_text("alpha question", DEADLINE);
}

#[test]
fn resume_picks_a_session_of_every_other_cli() {
    for cli in [&Codex as &'static dyn RealCli, &Gemini, &Qwen, &OPENCODE, &KILO] {
        let Some(scene) = Scene::row(cli, QUICK) else { continue };
        scene.one_shot("alpha question");
        scene.one_shot("gamma question");
        let mut terminal = scene.resume(&[], &scene.project);
        terminal.wait_for_text("gamma question", DEADLINE);
        terminal.type_text("alpha");
        terminal.key(Key::Enter);
        terminal.wait_for_text(ALPHA, DEADLINE);
        cli.quit(&mut terminal);
    }
}

#[test]
fn resume_opens_the_home_of_the_session_claude() {
    opens_the_home_of_the_session(&Claude);
}

#[test]
fn resume_opens_the_home_of_the_session_codex() {
    opens_the_home_of_the_session(&Codex);
}

#[test]
fn resume_opens_the_home_of_the_session_gemini() {
    opens_the_home_of_the_session(&Gemini);
}

#[test]
fn resume_opens_the_home_of_the_session_qwen() {
    opens_the_home_of_the_session(&Qwen);
}

#[test]
fn resume_opens_the_home_of_the_session_opencode() {
    opens_the_home_of_the_session(&OPENCODE);
}

/// Two homes, and each time the shell's variable selects the other one.
fn opens_the_home_of_the_session(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let other = scene.sandbox.home().join("other");
    scene.copy_home(&other);
    let selecting = Some((scene.variable(), other.to_str().unwrap()));
    let of_default = scene.one_shot("alpha question").session_id;
    let run = scene.run(&cli.one_shot_arguments(None, "delta question"), selecting);
    let of_other = cli.answer(run).session_id;
    let id = scene.session(&of_default).id;
    assert_eq!(scene.find(&of_other), None, "its home has not been named yet");
    let mut shell = scene.sandbox.command(BINARIES.sessctl);
    shell.args(["resume", "--plan", &id]).envs(selecting);
    assert_eq!(scene.sandbox.run(&mut shell, DEADLINE).status, 0);
    let listed = || scene.find(&of_other);
    let found = wait_until("the session in the home that was named", DEADLINE, listed);
    assert_eq!(Path::new(&found.home), scene.selected(&other));

    let mut terminal = scene.resume_with(&[&id], &scene.elsewhere, selecting);
    terminal.wait_for_text(ALPHA, DEADLINE);
    assert_eq!(variable_of(terminal.pid(), scene.variable()), None);
    cli.quit(&mut terminal);

    let mut terminal = scene.resume(&[&found.id], &scene.elsewhere);
    terminal.wait_for_text("FAKE turns=1 first='delta question'", DEADLINE);
    let selected = variable_of(terminal.pid(), scene.variable());
    assert_eq!(selected.as_deref(), other.to_str());
    cli.quit(&mut terminal);
}
