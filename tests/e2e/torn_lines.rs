//! Promise: a transcript whose last line is torn keeps its context. Before the next record is
//! appended the line is ended, after a copy that can be put back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sessd_proto::FaultCode;
use sessd_tests::real_cli::{Claude, Gemini, Qwen, RealCli};

use crate::scene::{Scene, answer, copy, fault, set_age};

/// Longer than a torn transcript must be left alone.
const QUIET: Duration = Duration::from_secs(11);

#[test]
fn torn_transcript_of_qwen_keeps_its_context() {
    let Some((scene, id, path)) = torn(&Qwen) else { return };
    // The trap: by itself the CLI glues the next record to the torn one.
    let kept = scene.sandbox.home().join("kept");
    copy(&path, &kept);
    let run = |prompt: &str| Qwen.one_shot_resume(&scene.sandbox, &scene.project, &id, prompt).text;
    run("beta question");
    let lost = run("gamma question");
    assert!(!lost.contains("first='alpha question'"), "the trap itself: {lost}");
    fs::copy(&kept, &path).unwrap();
    keeps_its_context(&scene, &id, &path);
}

#[test]
fn torn_transcript_of_gemini_keeps_its_context() {
    let Some((scene, id, path)) = torn(&Gemini) else { return };
    keeps_its_context(&scene, &id, &path);
}

#[test]
fn torn_transcript_of_claude_keeps_its_context() {
    let Some((scene, id, path)) = torn(&Claude) else { return };
    keeps_its_context(&scene, &id, &path);
}

/// A session whose transcript ends in half of a record.
fn torn(cli: &'static dyn RealCli) -> Option<(Scene, String, PathBuf)> {
    let scene = Scene::row(cli, &["qwen", "gemini"])?;
    let id = scene.one_shot("alpha question").session_id;
    scene.session(&id);
    let path = cli.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"type":"system","uuid":"0000"#).unwrap();
    Some((scene, id, path))
}

fn keeps_its_context(scene: &Scene, id: &str, path: &Path) {
    let before = fs::read(path).unwrap();
    // Another process may still be writing the line.
    let now = std::time::SystemTime::now();
    fs::File::options().write(true).open(path).unwrap().set_modified(now).unwrap();
    assert_eq!(fault(&scene.sandbox, &["resume", id], 4).code, FaultCode::Busy);
    assert_eq!(fs::read(path).unwrap(), before);
    assert_eq!(copies(scene).len(), 0);

    set_age(path, QUIET);
    for prompt in ["beta question", "gamma question"] {
        let sent = answer(&scene.sandbox, &["send", id, prompt]);
        let text = sent["text"].as_str().unwrap();
        assert!(text.contains("first='alpha question'"), "{text}");
    }
    let after = fs::read(path).unwrap();
    let ended = [&before[..], b"\n"].concat();
    assert!(after.starts_with(&ended), "the line was not ended");
    let is_kept = |copy: &PathBuf| fs::read(copy).unwrap() == before;
    assert_eq!(copies(scene).into_iter().filter(is_kept).count(), 1);
}

/// The copies of transcripts.
fn copies(scene: &Scene) -> Vec<PathBuf> {
    let all = sessd_tests::tree::files_below(&scene.sandbox.state_dir().join("copies"));
    let is_copy = |path: &PathBuf| path.extension().is_some_and(|it| it == "jsonl");
    all.into_iter().filter(is_copy).collect()
}
