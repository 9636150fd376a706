//! Promise: a check is free. Nothing that only looks asks a model, runs a provider's program,
//! or leaves a trace in a provider's home.

use std::fs;
use std::time::Duration;

use sessd_tests::model_server::ModelServer;
use sessd_tests::real_cli::{self, RealCli};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::tree::tree_hash;
use sessd_tests::wait::{DEADLINE, pause, wait_until};

use crate::BINARIES;
use crate::scene::{Calls, NEVER, Scene, all_sessions, runs, wait_until_settled};

const NAMES: [&str; 8] =
    ["claude", "codex", "gemini", "qwen", "cursor-agent", "opencode", "kilo", "npm"];

/// Every command that only looks, at sessions as well.
fn look_at_everything(sandbox: &Sandbox, ids: &[String]) {
    let everywhere: [&[&str]; 9] = [
        &["list", "--all"],
        &["list", "--busy"],
        &["check", "--all"],
        &["jobs"],
        &["jobs", "run", "discovery"],
        &["jobs", "run", "heartbeat"],
        &["providers"],
        &["status"],
        &["doctor"],
    ];
    for arguments in everywhere {
        for form in [&["--json"][..], &[]] {
            let output = sandbox.sessctl(&[form, arguments].concat());
            assert_eq!(output.status, 0, "{arguments:?}: {output:#?}");
        }
    }
    for id in ids {
        for arguments in [&["show", id][..], &["check", id], &["resume", "--plan", id]] {
            let output = sandbox.sessctl(arguments);
            assert_eq!(output.status, 0, "{arguments:?}: {output:#?}");
        }
    }
}

/// `gemini --list-sessions` asks the model once and writes the answer into a transcript: what
/// is looked at is never looked at through the program.
#[test]
fn trap_08_looking_is_free() {
    let server = ModelServer::start();
    let mut sandbox = Sandbox::new(BINARIES);
    let project = sandbox.dir("project");
    sandbox.set_env("SESSD_HEARTBEAT_FRESH_S", "0");
    let installed = |cli: &&&dyn RealCli| {
        let runs = runs(**cli, &["claude", "codex", "gemini", "opencode"]);
        runs && cli.prepare(&mut sandbox, &server, &[&project])
    };
    let clis: Vec<_> = real_cli::ALL.iter().filter(installed).collect();
    for cli in &clis {
        cli.one_shot(&sandbox, &project, "alpha question");
    }
    let asked = server.requests().len();
    let homes =
        [".claude", ".codex", ".gemini", ".qwen", ".local/share/opencode", ".local/share/kilo"];
    let homes = homes.map(|name| sandbox.home().join(name));
    let homes: Vec<_> = homes.into_iter().filter(|home| home.exists()).collect();
    let before: Vec<_> = homes.iter().map(|home| tree_hash(home)).collect();
    let beside = fs::read(sandbox.home().join(".claude.json")).ok();
    let calls = Calls::of(&sandbox, &NAMES);

    let ids: Vec<_> = all_sessions(&sandbox).into_iter().map(|found| found.id).collect();
    assert_eq!(ids.len(), clis.len());
    look_at_everything(&sandbox, &ids);

    for (home, before) in homes.iter().zip(&before) {
        tree_hash(home).assert_same_as(before);
    }
    assert_eq!(fs::read(sandbox.home().join(".claude.json")).ok(), beside);
    assert_eq!(calls.seen(), [""; 0]);
    let requests = server.requests();
    assert_eq!(requests.len(), asked, "{:#?}", &requests[asked..]);
}

#[test]
fn looking_makes_no_home() {
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
    sandbox.dir(".local/state");
    let before = entries(&sandbox);
    let calls = Calls::of(&sandbox, &NAMES);
    look_at_everything(&sandbox, &[]);
    assert_eq!(entries(&sandbox), before);
    assert_eq!(calls.seen(), [""; 0]);
}

fn entries(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.home()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Seeing who runs a session is looking as well.
#[test]
fn looking_at_a_session_in_use_is_free() {
    for cli in real_cli::ALL {
        let Some(scene) = Scene::row(cli, &["claude", "opencode"]) else { continue };
        let asked = scene.one_shot("alpha question").session_id;
        let id = scene.session(&asked).id;
        let terminal = cli.tui_resume(&scene.sandbox, &scene.project, &asked);
        terminal.wait_for_text("last='alpha question'", DEADLINE);
        wait_until_settled(&scene.sandbox, &id);
        let transcript = cli.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
        // A database has its log and the index of that beside it.
        let bytes = |ending| fs::read(format!("{}{ending}", transcript.display())).ok();
        let state = || ["", "-wal", "-shm"].map(bytes);
        // Changes that the terminal still makes by itself are not ours.
        let (asked, before) = wait_until("a terminal that does nothing", DEADLINE, || {
            let before = (scene.server.requests().len(), state());
            pause(Duration::from_secs(1));
            (before == (scene.server.requests().len(), state())).then_some(before)
        });
        let calls = scene.replace_cli();
        look_at_everything(&scene.sandbox, &[id]);
        assert!(state() == before, "{} was written", transcript.display());
        assert_eq!(scene.server.requests().len(), asked);
        assert_eq!(calls.seen(), [""; 0]);
    }
}
