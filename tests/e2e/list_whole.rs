//! Promise: `list --all` is a whole: no session is missing because the first sweep is still
//! running, because it moved during the walk, or because only the caller's shell selects its home.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use sessd_tests::is_long;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::scene::sessions;

/// Writes transcripts of Claude Code into a home; returns their paths.
fn write_sessions(sandbox: &Sandbox, home: &str, count: usize) -> Vec<PathBuf> {
    let record = json!({
        "type": "user", "message": {"role": "user", "content": "a question"}, "cwd": "/",
        "timestamp": "2026-11-21T08:00:00.000Z", "entrypoint": "cli",
    });
    let folder = sandbox.dir(&format!("{home}/projects/-"));
    let write = |number: usize| {
        let path = folder.join(format!("00000000-0000-4000-8000-{number:012}.jsonl"));
        fs::write(&path, format!("{record}\n")).unwrap();
        path
    };
    (0..count).map(write).collect()
}

#[test]
fn everything_is_listed_while_the_first_sweep_runs() {
    let sandbox = Sandbox::new(BINARIES);
    let count = if is_long() { 50_000 } else { 3_000 };
    write_sessions(&sandbox, ".claude", count);
    let output = sandbox.sessctl(&["list", "--all"]);
    assert_eq!((output.stdout.lines().count(), &*output.stderr), (count, ""));
}

/// Every change moves a session to the front of the list, past the cursor of a walk.
#[test]
fn everything_is_listed_while_sessions_change() {
    let sandbox = Sandbox::new(BINARIES);
    let paths = write_sessions(&sandbox, ".claude", 1_200);
    sandbox.wait_until_started();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for (count, path) in paths.iter().cycle().enumerate() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (minutes, seconds) = (count / 60 % 60, count % 60);
                let answer = json!({
                    "type": "assistant", "message": {"role": "assistant", "content": "yes"},
                    "timestamp": format!("2026-11-22T08:{minutes:02}:{seconds:02}.000Z"),
                });
                let mut file = fs::File::options().append(true).open(path).unwrap();
                writeln!(file, "{answer}").unwrap();
            }
        });
        let walks = if is_long() { 200 } else { 20 };
        let counts: Vec<_> =
            (0..walks).map(|_| sessions(&sandbox, &["list", "--all"]).len()).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(counts.iter().all(|count| *count == paths.len()), "{counts:?}");
    });
}

#[test]
fn list_finds_the_home_that_only_the_shell_selects() {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.json(&["status"]);
    write_sessions(&sandbox, "elsewhere", 1);
    let mut list = sandbox.command(BINARIES.sessctl);
    list.arg("list").env("CLAUDE_CONFIG_DIR", sandbox.home().join("elsewhere"));
    let output = sandbox.run(&mut list, DEADLINE);
    assert_eq!((output.status, output.stdout.lines().count()), (0, 1), "{output:#?}");
}
