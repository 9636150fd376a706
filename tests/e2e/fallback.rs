//! Promise: a session that is proven to be gone goes on under its id when the caller wants that,
//! and says so; what is only unknown, or a call that failed, changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;

use rusqlite::Connection;
use serde_json::Value;
use sessd_proto::{FaultCode, Status};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::DEADLINE;

use crate::scene::{QUICK, Scene, answer, copy, fault, run_job, show, verdict};
use crate::{BINARIES, CURSOR};

fn transcript(sandbox: &Sandbox, provider_session_id: &str) -> PathBuf {
    sandbox.state_dir().join(format!("echo/{provider_session_id}.jsonl"))
}

/// The data of the events of this type, in order.
fn events(sandbox: &Sandbox, kind: &str) -> Vec<Value> {
    let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    let mut query = registry.prepare("SELECT data FROM events WHERE type = ?1").unwrap();
    let found = query.query_map([kind], |row| row.get::<_, String>(0)).unwrap();
    found.map(|data| serde_json::from_str(&data.unwrap()).unwrap()).collect()
}

/// A session whose transcript is gone, with a key.
fn gone(sandbox: &Sandbox) -> String {
    let id = sandbox.new_session("one");
    sandbox.json(&["key", "bind", "@me", &id]);
    let path = transcript(sandbox, &id);
    copy(&path, &sandbox.home().join("kept"));
    fs::remove_file(path).unwrap();
    id
}

#[test]
fn a_session_that_is_gone_is_rebound_under_its_id() {
    let sandbox = Sandbox::new(BINARIES);
    let id = gone(&sandbox);
    let refused = fault(&sandbox, &["send", "@me", "two"], 5);
    assert_eq!(refused.code, FaultCode::NotResumable);
    assert!(refused.hint.unwrap().contains("sessctl send --fallback new"));

    let sent = answer(&sandbox, &["send", "@me", "--fallback", "new", "two"]);
    assert_eq!((&sent["lost_context"], &sent["session"]["id"]), (&true.into(), &(*id).into()));
    assert_eq!(sent["text"], "turn 1, and you began with: two");
    let after = show(&sandbox, "@me");
    let theirs = after.provider_session_id.clone().unwrap();
    assert_eq!((&*after.id, verdict(&after)), (&*id, (Status::Active, None)));
    assert_ne!(theirs, id);
    let rebound = events(&sandbox, "rebound");
    assert_eq!(rebound.len(), 1);
    assert_eq!((&rebound[0]["from"], &rebound[0]["to"]), (&(*id).into(), &(*theirs).into()));
    assert_eq!(rebound[0]["reason"], "transcript_missing");

    let sent = answer(&sandbox, &["send", "@me", "--fallback", "new", "three"]);
    assert_eq!(sent["lost_context"], false);
    assert_eq!(sent["text"], "turn 2, and you began with: two");
    // A transcript that comes back is known to be the session's earlier one, not its present one.
    copy(&sandbox.home().join("kept"), &transcript(&sandbox, &id));
    run_job(&sandbox, "discovery");
    answer(&sandbox, &["daemon", "restart"]);
    run_job(&sandbox, "discovery");
    assert_eq!(sandbox.ids(), [&*id]);
    assert_eq!(show(&sandbox, "@me").provider_session_id, Some(theirs));
    let said = sandbox.sessctl(&["send", "@me", "four"]).stdout;
    assert_eq!(said, "turn 3, and you began with: two\n");
}

#[test]
fn a_terminal_is_told_that_the_context_is_lost() {
    let sandbox = Sandbox::new(BINARIES);
    let id = gone(&sandbox);
    let sent = sandbox.sessctl(&["send", &id, "--fallback", "new", "two"]);
    assert_eq!(sent.stdout, "turn 1, and you began with: two\n");
    assert!(sent.stderr.contains("without its context"), "{}", sent.stderr);
    let next = sandbox.sessctl(&["send", &id, "--fallback", "new", "three"]);
    assert!(!next.stderr.contains("context"), "{}", next.stderr);
}

#[test]
fn an_unknown_session_is_never_rebound() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let home = sandbox.state_dir().join("echo");
    fs::rename(&home, sandbox.home().join("away")).unwrap();
    let refused = fault(&sandbox, &["send", &id, "--fallback", "new", "two"], 6);
    assert_eq!(refused.code, FaultCode::StatusUnknown);
    sandbox.json(&["delete", &id]);
    fault(&sandbox, &["send", &id, "--fallback", "new", "two"], 5);
    sandbox.json(&["undelete", &id]);
    fs::rename(sandbox.home().join("away"), &home).unwrap();
    run_job(&sandbox, "discovery");
    let sent = answer(&sandbox, &["send", &id, "--fallback", "new", "two"]);
    assert_eq!(sent["text"], "turn 2, and you began with: one");
    assert!(events(&sandbox, "rebound").is_empty());
}

#[test]
fn a_lost_directory_is_not_a_lost_session() {
    let sandbox = Sandbox::new(BINARIES);
    let dir = sandbox.dir("work");
    let words = ["send", "--new", "echo", "--cwd", dir.to_str().unwrap(), "one"];
    let id = answer(&sandbox, &words)["session"]["id"].as_str().unwrap().to_owned();
    fs::remove_dir(&dir).unwrap();
    let refused = fault(&sandbox, &["send", &id, "--fallback", "new", "two"], 5);
    assert_eq!(refused.code, FaultCode::DirectoryMissing);
    assert!(events(&sandbox, "rebound").is_empty());
}

/// Neither of a session that is well, nor of one that was rebound: the next caller is still
/// told that the context is lost.
#[test]
fn a_failed_call_never_rebinds() {
    let sandbox = Sandbox::new(BINARIES);
    let program = sandbox.script(
        "agent",
        "#!/bin/sh\n[ -e ~/failing ] && { echo 'HTTP 401' >&2; exit 1; }\n\
         exec \"$SESSD_BIN\" \"$@\"\n",
    );
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    let id = gone(&sandbox);
    let words = ["send", "@me", "--fallback", "new", "two"];
    let failing = sandbox.write("failing", "");
    assert_eq!(fault(&sandbox, &words, 6).code, FaultCode::ProviderFailed);
    let theirs = show(&sandbox, "@me").provider_session_id;
    assert_eq!(fault(&sandbox, &words, 6).code, FaultCode::ProviderFailed);
    assert_eq!(show(&sandbox, "@me").provider_session_id, theirs, "bound once more");
    fs::remove_file(&failing).unwrap();
    let sent = answer(&sandbox, &words);
    assert_eq!((&sent["lost_context"], &sent["session"]["id"]), (&true.into(), &(*id).into()));

    let before = show(&sandbox, "@me");
    sandbox.write("failing", "");
    assert_eq!(fault(&sandbox, &words, 6).code, FaultCode::ProviderFailed);
    let after = show(&sandbox, "@me");
    assert_eq!(verdict(&after), (Status::Active, None));
    assert_eq!(after.provider_session_id, before.provider_session_id);
    assert_eq!(events(&sandbox, "rebound").len(), 1);
}

/// A bot resets a conversation by deleting it; its key goes on.
#[test]
fn a_session_in_the_trash_is_rebound() {
    let sandbox = Sandbox::new(BINARIES);
    let first = ["send", "@me", "--agent", "echo", "--fallback", "new"];
    let send = |prompt: &str| answer(&sandbox, &[&first[..], &[prompt]].concat());
    let sent = send("one");
    assert_eq!(sent["lost_context"], false);
    let id = sent["session"]["id"].as_str().unwrap();
    sandbox.json(&["delete", "@me"]);
    let sent = send("two");
    assert_eq!((&sent["lost_context"], &sent["session"]["id"]), (&true.into(), &id.into()));
    assert_eq!(sent["text"], "turn 1, and you began with: two");
    assert_eq!(show(&sandbox, "@me").trashed_at, None);
    run_job(&sandbox, "discovery");
    assert_eq!(sandbox.ids(), [id], "the transcript of before is a session again");
    assert!(transcript(&sandbox, id).exists());
}

#[test]
fn a_session_past_its_ttl_is_rebound_with_fallback() {
    let sandbox = Sandbox::new(BINARIES);
    let words = ["send", "@me", "--agent", "echo", "--ttl", "1s", "--fallback", "new"];
    let send = |prompt: &str| answer(&sandbox, &[&words[..], &[prompt]].concat());
    let id = send("one")["session"]["id"].clone();
    sessd_tests::wait::wait_until("the end of its time", DEADLINE, || {
        let checked = crate::scene::check(&sandbox, "@me");
        (verdict(&checked) == (Status::Expired, Some("ttl"))).then_some(())
    });
    fault(&sandbox, &["send", "@me", "--agent", "echo", "two"], 5);
    let sent = send("two");
    assert_eq!((&sent["lost_context"], &sent["session"]["id"]), (&true.into(), &id));
    assert_eq!(sent["text"], "turn 1, and you began with: two");
}

#[test]
fn many_callers_rebind_one_session_once() {
    const CALLERS: usize = 10;
    let sandbox = Sandbox::new(BINARIES);
    let id = gone(&sandbox);
    let send = || answer(&sandbox, &["send", &id, "--fallback", "new", "two"]);
    let sent: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(send)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let texts: BTreeSet<_> = sent.iter().map(|sent| sent["text"].as_str().unwrap()).collect();
    let numbered = (1..=CALLERS).map(|n| format!("turn {n}, and you began with: two"));
    let numbered: Vec<_> = numbered.collect();
    assert_eq!(texts, numbered.iter().map(String::as_str).collect());
    assert_eq!(sent.iter().filter(|sent| sent["lost_context"] == true).count(), 1);
    assert_eq!(events(&sandbox, "rebound").len(), 1);
}

#[test]
fn a_claude_session_is_rebound() {
    is_rebound(&Claude);
}

#[test]
fn a_codex_session_is_rebound() {
    is_rebound(&Codex);
}

#[test]
fn a_gemini_session_is_rebound() {
    is_rebound(&Gemini);
}

#[test]
fn a_qwen_session_is_rebound() {
    is_rebound(&Qwen);
}

#[test]
fn an_opencode_session_is_rebound() {
    is_rebound(&OPENCODE);
}

#[test]
fn a_kilo_session_is_rebound() {
    is_rebound(&KILO);
}

#[test]
fn a_cursor_session_is_rebound() {
    is_rebound(CURSOR);
}

fn is_rebound(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let sandbox = &scene.sandbox;
    let project = scene.project.to_str().unwrap();
    let send = |prompt: &str| {
        let words = ["send", "@me", "--agent", scene.provider(), "--cwd", project];
        answer(sandbox, &[&words[..], &["--fallback", "new", prompt]].concat())
    };
    let id = send("alpha question")["session"]["id"].as_str().unwrap().to_owned();
    let old = show(sandbox, &id).provider_session_id.unwrap();
    // A row of a database is not put back so easily.
    let kept = (!scene.has_database()).then(|| {
        let path = cli.transcript(sandbox, &scene.project, &old).unwrap();
        let kept = sandbox.home().join("kept");
        copy(&path, &kept);
        (kept, path)
    });
    cli.forget(sandbox, &scene.project, &old);
    let sent = send("beta question");
    assert_eq!((&sent["lost_context"], &sent["session"]["id"]), (&true.into(), &(*id).into()));
    assert_eq!(sent["text"], "FAKE turns=1 first='beta question' last='beta question'");
    let new = show(sandbox, &id).provider_session_id.unwrap();
    assert_ne!(new, old);
    if let Some((kept, path)) = kept {
        copy(&kept, &path);
    }
    run_job(sandbox, "discovery");
    let sent = send("gamma question");
    assert_eq!(sent["lost_context"], false);
    assert_eq!(sent["text"], "FAKE turns=2 first='beta question' last='gamma question'");
    assert_eq!(show(sandbox, &id).provider_session_id, Some(new));
    assert_eq!(sandbox.ids(), [id]);
}
