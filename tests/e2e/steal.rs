//! Promise: a process that has a session is asked to end or waited for if we started it. None is
//! killed, and no other process is asked.

use sessd_tests::daemon::is_running;
use sessd_tests::real_cli::{self, Claude, RealCli};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::scene::{QUICK, Scene, fault, show, wait_for_live};
use crate::turn_verbs::{agent, detach, gated, wait_for_state};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";

fn terminal(sandbox: &Sandbox, words: &[&str]) -> Terminal {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(words);
    Terminal::spawn(command, 24, 80)
}

#[test]
fn steal_takes_every_cli_over() {
    for cli in real_cli::ALL {
        let Some(scene) = Scene::row(cli, QUICK) else { continue };
        let asked = scene.one_shot("alpha question").session_id;
        let id = scene.session(&asked).id;
        let mut first = scene.resume(&[&id], &scene.elsewhere);
        first.wait_for_text(ALPHA, DEADLINE);
        wait_for_live(&scene.sandbox, &id, "the first", |live| live.blocks());
        let mut second = scene.resume(&["--steal", &id], &scene.elsewhere);
        first.wait_exit(DEADLINE);
        second.wait_for_text(ALPHA, DEADLINE);
        fault(&scene.sandbox, &["resume", &id], 4);
        cli.quit(&mut second);
    }
}

#[test]
fn steal_leaves_alone_what_we_did_not_start() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let mut foreign = Claude.tui_resume(&scene.sandbox, &scene.project, &asked);
    foreign.wait_for_text(ALPHA, DEADLINE);
    wait_for_live(&scene.sandbox, &id, "the foreign process", |live| live.blocks());
    fault(&scene.sandbox, &["resume", "--steal", &id], 4);
    assert!(!foreign.has_exited());
    assert!(show(&scene.sandbox, &id).live.blocks());
    Claude.quit(&mut foreign);
}

#[test]
fn steal_kills_no_process_that_refuses_to_end() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let script = "#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do read -r line; done\n";
    let program = sandbox.script("deaf", script);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let deaf = terminal(&sandbox, &["resume", &id]);
    deaf.wait_for_text("deaf", DEADLINE);
    assert_fault(&sandbox.sessctl(&["resume", "--steal", &id]), 4, "deaf");
    assert!(is_running(i32::try_from(deaf.pid()).unwrap()));
    assert_fault(&sandbox.sessctl(&["resume", &id]), 4, "still there");
}

/// A turn has the session as much as a terminal has.
#[test]
fn a_session_with_a_turn_is_waited_for_or_its_turn_ended() {
    let (sandbox, gate, id) = gated();
    let running = detach(&sandbox, &[&id, "two"]);
    let pid = agent(&sandbox);
    let busy = sandbox.sessctl(&["resume", &id]);
    assert_fault(&busy, 4, "a turn runs");
    assert!(busy.stderr.contains(&format!("process {pid} ")), "{busy:?}");
    let queued = detach(&sandbox, &[&id, "three"]);
    // That one was accepted before, and comes next.
    assert_fault(&sandbox.sessctl(&["resume", "--steal", &id]), 4, "a turn waits");
    assert_eq!(sandbox.json(&["turns", "show", &running])["state"], "running");
    let mut waiting = terminal(&sandbox, &["resume", "--wait", &id]);
    waiting.wait_for_text("waiting: ", DEADLINE);
    // The agent at the terminal goes through the gate as well.
    gate.open(3);
    waiting.wait_for_text("turn 3, and you began with: one", DEADLINE);
    for turn in [running, queued] {
        wait_for_state(&sandbox, &turn, "succeeded");
    }
    waiting.key(Key::CtrlD);
    waiting.wait_exit(DEADLINE);

    let running = detach(&sandbox, &["--wait", &id, "four"]);
    agent(&sandbox);
    let mut stealing = terminal(&sandbox, &["resume", "--steal", &id]);
    wait_for_state(&sandbox, &running, "cancelled");
    gate.open(1);
    stealing.wait_for_text("turn 3, and you began with: one", DEADLINE);
    stealing.key(Key::CtrlD);
    assert!(stealing.wait_exit(DEADLINE).success());
}

#[test]
fn wait_goes_on_when_the_session_is_free() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let mut first = terminal(&sandbox, &["resume", &id]);
    first.wait_for_text("turn 1", DEADLINE);
    // Not busy, but waiting in the daemon: also without a selector.
    let mut second = terminal(&sandbox, &["resume", "--last", "--wait"]);
    second.wait_for_text("waiting: ", DEADLINE);
    let pid = first.pid();
    second.wait_for_text(&format!("process {pid}"), DEADLINE);
    first.type_text("two");
    first.key(Key::Enter);
    first.wait_for_text("turn 2", DEADLINE);
    assert!(!second.screen().contains("turn 2"));
    first.key(Key::CtrlD);
    first.wait_exit(DEADLINE);
    second.wait_for_text("turn 2", DEADLINE);
    second.key(Key::CtrlD);
    second.wait_exit(DEADLINE);
    wait_until("a free session", DEADLINE, || {
        (sandbox.json(&["show", &id])["live"]["state"] != "open").then_some(())
    });
}
