//! The yardstick itself: each real CLI, without sessd, keeps a session's context against the
//! model server, one-shot and in a terminal. When this fails, no other failure means anything, and
//! when a test with a slow CLI fails, `SESSD_TEST_LONG=1` asks that one here.

use sessd_tests::model_server::ModelServer;
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::DEADLINE;

use crate::scene::{QUICK, runs};
use crate::{BINARIES, CURSOR};

#[test]
fn claude_works() {
    keeps_context(&Claude);
}

#[test]
fn codex_works() {
    keeps_context(&Codex);
}

#[test]
fn gemini_works() {
    keeps_context(&Gemini);
}

#[test]
fn qwen_works() {
    keeps_context(&Qwen);
}

#[test]
fn cursor_works() {
    keeps_context(CURSOR);
}

#[test]
fn opencode_works() {
    keeps_context(&OPENCODE);
}

#[test]
fn kilo_works() {
    keeps_context(&KILO);
}

fn keeps_context(cli: &dyn RealCli) {
    if !runs(cli, QUICK) {
        return;
    }
    let server = ModelServer::start();
    let mut sandbox = Sandbox::new(BINARIES);
    let project = sandbox.dir("project");
    if !cli.prepare(&mut sandbox, &server, &[&project]) {
        return;
    }

    let first = cli.one_shot(&sandbox, &project, "alpha question");
    assert_eq!(first.text, "FAKE turns=1 first='alpha question' last='alpha question'");
    let transcript = cli.transcript(&sandbox, &project, &first.session_id);
    assert!(transcript.is_some(), "no transcript of {}", first.session_id);

    let second = cli.one_shot_resume(&sandbox, &project, &first.session_id, "beta question");
    assert_eq!(second.text, "FAKE turns=2 first='alpha question' last='beta question'");
    assert_eq!(second.session_id, first.session_id);
    assert_eq!(cli.transcript(&sandbox, &project, &first.session_id), transcript);
    let turns = server.turn_requests();
    assert_eq!(turns.len(), 2, "{turns:#?}");

    let mut terminal = cli.tui_resume(&sandbox, &project, &first.session_id);
    terminal.wait_for_text("FAKE turns=2 first='alpha question' last='beta question'", DEADLINE);
    assert_eq!(server.turn_requests().len(), 2, "opening a session ran the model");
    cli.prompt(&terminal, "gamma question");
    terminal.wait_for_text("FAKE turns=3 first='alpha question' last='gamma question'", DEADLINE);
    cli.quit(&mut terminal);
}
