//! Resuming the built-in agent at a terminal: one writer at a time, however often the daemon
//! comes and goes.

use std::fs;

use sessd_tests::sandbox::Sandbox;
use sessd_tests::terminal::{Key, Terminal};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::bad_input::assert_fault;

fn terminal(sandbox: &Sandbox, arguments: &[&str]) -> Terminal {
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(arguments);
    Terminal::spawn(command, 24, 80)
}

#[test]
fn a_resumed_session_shows_what_was_said_and_goes_on() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("hello from a script");
    let mut resumed = terminal(&sandbox, &["resume", &id[..8]]);
    resumed.wait_for_text("> hello from a script", DEADLINE);
    resumed.wait_for_text("turn 1, and you began with: hello from a script", DEADLINE);
    resumed.type_text("typed");
    resumed.key(Key::Enter);
    resumed.wait_for_text("turn 2, and you began with: hello from a script", DEADLINE);
    resumed.key(Key::CtrlD);
    assert!(resumed.wait_exit(DEADLINE).success());
    let third = sandbox.sessctl(&["send", &id, "three"]);
    assert!(third.stdout.starts_with("turn 3"), "{third:?}");
}

#[test]
fn an_open_session_has_no_second_writer() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let mut first = terminal(&sandbox, &["resume", &id]);
    first.wait_for_text("turn 1", DEADLINE);
    let pid = first.pid().to_string();

    for restart in ["", "daemon restart", "kill -9"] {
        match restart {
            "" => {}
            "kill -9" => sandbox.kill_daemon(),
            _ => assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0),
        }
        for words in [&["resume", &id][..], &["send", &id, "two"], &["send", "--last", "two"]] {
            let output = sandbox.sessctl(words);
            assert_fault(&output, 4, restart);
            let said = &output.stderr;
            assert!(said.contains(&format!("process {pid} ")), "{restart}: no pid: {said}");
            assert!(said.contains("echo --home"), "{restart}: no command: {said}");
        }
        let shown = sandbox.json(&["show", &id]);
        assert_eq!(shown["live"]["state"], "open");
        assert_eq!(shown["live"]["pid"].to_string(), pid);
        assert_eq!(sandbox.json(&["list", "--busy"])["sessions"][0]["id"], *id);
    }

    let plan = sandbox.json(&["resume", "--plan", &id]);
    assert_eq!(plan["cwd"], sandbox.home().to_str().unwrap(), "a plan needs no lease");
    first.key(Key::CtrlD);
    first.wait_exit(DEADLINE);
    wait_until("the end of the lease", DEADLINE, || {
        (sandbox.json(&["show", &id])["live"]["state"] != "open").then_some(())
    });
    let sent = sandbox.sessctl(&["send", &id, "two"]);
    assert!(sent.stdout.starts_with("turn 2, and you began with: one"), "{sent:?}");
}

#[test]
fn a_plan_takes_no_lease() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    for _ in 0..2 {
        let plan = sandbox.json(&["resume", "--plan", &id]);
        assert!(plan["args"].as_array().unwrap().contains(&id.clone().into()), "{plan}");
    }
    assert_eq!(sandbox.json(&["status"])["leases"], 0);
    let line = sandbox.sessctl(&["resume", "--plan", &id]).stdout;
    assert!(line.starts_with("cd ") && line.contains(&id), "{line}");
}

#[test]
fn a_terminal_gets_a_list_and_a_pipe_the_newest() {
    let sandbox = Sandbox::new(BINARIES);
    for prompt in ["apples", "bananas", "cherries"] {
        sandbox.new_session(prompt);
    }
    let mut newest = terminal(&sandbox, &["resume"]);
    for title in ["apples", "bananas", "cherries"] {
        newest.wait_for_text(title, DEADLINE);
    }
    newest.key(Key::Enter);
    newest.wait_for_text("turn 1, and you began with: cherries", DEADLINE);
    newest.key(Key::CtrlD);
    assert!(newest.wait_exit(DEADLINE).success());

    let mut filtered = terminal(&sandbox, &["resume"]);
    filtered.wait_for_text("bananas", DEADLINE);
    filtered.type_text("bana");
    wait_until("the filter", DEADLINE, || (!filtered.screen().contains("apples")).then_some(()));
    filtered.key(Key::Enter);
    filtered.wait_for_text("turn 1, and you began with: bananas", DEADLINE);
    filtered.key(Key::CtrlD);
    assert!(filtered.wait_exit(DEADLINE).success());

    let mut left = terminal(&sandbox, &["resume"]);
    left.wait_for_text("bananas", DEADLINE);
    left.key(Key::Esc);
    assert_eq!(left.wait_exit(DEADLINE).code(), Some(3));

    let piped = sandbox.sessctl(&["resume"]);
    assert_eq!(piped.status, 0, "{piped:?}");
    let last = sandbox.sessctl(&["resume", "--last"]);
    assert_eq!(piped.stdout, last.stdout);
    assert!(piped.stdout.contains("began with: cherries"), "{piped:?}");
}

#[test]
fn a_lost_directory_is_said_and_another_one_may_be_named() {
    let sandbox = Sandbox::new(BINARIES);
    let lost = sandbox.dir("lost");
    let lost = lost.to_str().unwrap();
    let sent = sandbox.json(&["send", "--new", "echo", "--cwd", lost, "one"]);
    let id = sent["session"]["id"].as_str().unwrap();
    fs::remove_dir(lost).unwrap();
    for words in [&["resume", id][..], &["resume", "--plan", id], &["send", id, "two"]] {
        let output = sandbox.sessctl(words);
        assert_fault(&output, 5, &format!("{words:?}"));
        assert!(output.stderr.contains("directory"), "{}", output.stderr);
    }
    assert!(sandbox.sessctl(&["resume", id]).stderr.contains("--cwd"));
    assert_eq!(sandbox.json(&["show", id])["reason"], "directory_missing");
    let here = sandbox.sessctl(&["resume", id, "--cwd", "."]);
    assert_eq!(here.status, 0, "{here:?}");
    assert!(here.stdout.contains("turn 1, and you began with: one"), "{here:?}");
    assert_fault(&sandbox.sessctl(&["resume", id, "--cwd", "/nowhere"]), 2, "--cwd");
    fs::create_dir(lost).unwrap();
    assert_eq!(sandbox.json(&["check", id])["sessions"][0]["status"], "active");
}
