//! Promise: a run of ours deletes no session of Claude Code, whose runs delete old transcripts of
//! all projects; and what the CLI does delete is believed to be gone, however much it is.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sessd_proto::Status;
use sessd_tests::real_cli::Claude;

use crate::scene::{Scene, all_sessions, answer, check, run_job, set_age, verdict};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn claude_deletes_nothing_in_our_runs_and_is_believed_in_others() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let write = |at: u32| -> PathBuf {
        let record = serde_json::json!({
            "type": "user", "message": {"role": "user", "content": "a question"},
            "timestamp": "2026-11-21T08:00:00.000Z", "cwd": "/", "entrypoint": "cli",
        });
        let name = format!("00000000-0000-4000-8000-0000000000{at:02}.jsonl");
        scene.sandbox.write(&format!(".claude/projects/-x/{name}"), format!("{record}\n"))
    };
    let all: Vec<_> = (0..10).map(write).collect();
    assert_eq!(all_sessions(&scene.sandbox).len(), 10);
    // Unnoticed: no prediction is made from it.
    all[..8].iter().for_each(|path| set_age(path, 40 * DAY));
    let project = scene.project.to_str().unwrap();
    let slow = "alpha [[sleep 9]]";
    answer(&scene.sandbox, &["send", "--new", "claude", "--cwd", project, slow]);
    assert!(all.iter().all(|path| path.exists()), "our run has deleted sessions");

    // The CLI looks once a day.
    fs::remove_file(scene.home().join(".last-cleanup")).unwrap();
    all[..8].iter().for_each(|path| set_age(path, 40 * DAY));
    scene.one_shot(slow);
    let left = all.iter().filter(|path| path.exists()).count();
    assert_eq!(left, 2, "the trap itself");
    run_job(&scene.sandbox, "discovery");
    for (at, path) in all.iter().enumerate() {
        let id = path.file_stem().unwrap().to_str().unwrap();
        let expected = match at {
            ..8 => (Status::Expired, Some("transcript_missing")),
            _ => (Status::Active, None),
        };
        assert_eq!(verdict(&check(&scene.sandbox, id)), expected);
    }
}
