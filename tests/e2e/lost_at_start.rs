//! Promise: a session that vanishes between our check and its provider's start is a failed turn,
//! in the provider's words, and no other session is taken for it. Each real CLI loses it itself:
//! a program in its place removes the transcript and then becomes it.

use std::fs;

use sessd_proto::{FaultCode, Status};
use sessd_tests::real_cli::{Claude, Codex, Gemini, OPENCODE, Qwen, RealCli};

use crate::scene::{QUICK, Scene, answer, check, fault, run_job, sessions, show, verdict};

#[test]
fn a_claude_session_lost_at_the_start_fails_the_turn() {
    vanishes(&Claude, "No conversation found with session ID");
}

#[test]
fn a_codex_session_lost_at_the_start_fails_the_turn() {
    vanishes(&Codex, "no rollout found");
}

#[test]
fn a_gemini_session_lost_at_the_start_fails_the_turn() {
    vanishes(&Gemini, "Error resuming session");
}

#[test]
fn a_qwen_session_lost_at_the_start_fails_the_turn() {
    vanishes(&Qwen, "No saved session found with ID");
}

#[test]
fn an_opencode_session_lost_at_the_start_fails_the_turn() {
    vanishes(&OPENCODE, "Session not found");
}

fn vanishes(cli: &'static dyn RealCli, said: &str) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let project = scene.project.to_str().unwrap();
    let new = ["send", "--new", scene.provider(), "--cwd", project, "alpha question"];
    let sent = answer(&scene.sandbox, &new);
    let id = sent["session"]["id"].as_str().unwrap();
    let theirs = show(&scene.sandbox, id).provider_session_id.unwrap();
    becomes_a_thief(&scene, &theirs);
    let asked = scene.server.turn_requests().len();
    let failed = fault(&scene.sandbox, &["send", "--fallback", "new", id, "beta question"], 6);
    assert_eq!(failed.code, FaultCode::ProviderFailed, "{failed:?}");
    assert!(failed.message.contains(said), "{failed:?}");
    assert_eq!(scene.server.turn_requests().len(), asked, "the model was asked");
    assert!(scene.server.asides().is_empty());
    assert_eq!(show(&scene.sandbox, id).provider_session_id.as_ref(), Some(&theirs));
    let gone = (Status::Expired, Some("transcript_missing"));
    assert_eq!(verdict(&check(&scene.sandbox, id)), gone);
    run_job(&scene.sandbox, "discovery");
    let listed = sessions(&scene.sandbox, &["list", "--all"]);
    assert_eq!(listed.len(), 1, "another session was started: {listed:#?}");
}

/// Puts a program in the place of the CLI that removes a session and then becomes the CLI.
fn becomes_a_thief(scene: &Scene, theirs: &str) {
    let link = scene.sandbox.home().join("../bin").join(scene.program());
    let real = fs::read_link(link).unwrap();
    let real = real.display();
    let steal = match scene.has_database() {
        true => format!("'{real}' session delete {theirs} >/dev/null 2>&1 </dev/null"),
        false => {
            let transcript = scene.cli.transcript(&scene.sandbox, &scene.project, theirs).unwrap();
            format!("rm '{}'", transcript.display())
        }
    };
    let thief = format!("#!/bin/sh\n{steal}\nexec '{real}' \"$@\"\n");
    scene.sandbox.link(scene.program(), &scene.sandbox.script("thief", thief));
}
