//! Promise: a verdict is what the CLI itself would do. Each damage is done to a home of its own;
//! `sessctl check` judges it first, then the CLI is asked to resume in it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sessd_proto::Session;
use sessd_proto::Status::{self, Active, Expired, Invalid};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::tree::tree_hash;

use crate::scene::{QUICK, Scene, all_sessions, check, runs, verdict};

type Verdict = (Status, Option<&'static str>);
/// Changes a transcript; `None` if it is removed.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;
type Case = (&'static str, Damage, Verdict);

const ACTIVE: Verdict = (Active, None);
const EMPTY: Verdict = (Invalid, Some("empty_transcript"));
const GONE: Verdict = (Expired, Some("transcript_missing"));
const NO_META: Verdict = (Invalid, Some("session_meta_missing"));
const NO_FIRST: Verdict = (Invalid, Some("first_record_broken"));
const NO_HEADER: Verdict = (Invalid, Some("header_missing"));

/// Damages that all of them judge alike.
const ALIKE: &[Case] = &[
    ("untouched", |bytes| Some(bytes.to_vec()), ACTIVE),
    ("removed", |_| None, GONE),
    ("truncated-tail", truncated_tail, ACTIVE),
    ("garbage-middle", garbage_middle, ACTIVE),
    ("nul-tail", |bytes| Some([bytes, &[0; 4096]].concat()), ACTIVE),
];

#[test]
fn verdicts_agree_with_claude() {
    agree(
        &Claude,
        &[
            ("garbage-first", garbage_first, ACTIVE),
            ("empty", |_| Some(Vec::new()), EMPTY),
            ("all-garbage", all_garbage, EMPTY),
            ("no-messages", |bytes| without(bytes, &["\"user\"", "\"assistant\""]), EMPTY),
        ],
    );
}

#[test]
fn verdicts_agree_with_codex() {
    agree(
        &Codex,
        &[
            ("garbage-first", garbage_first, NO_FIRST),
            ("empty", |_| Some(Vec::new()), NO_META),
            ("all-garbage", all_garbage, NO_META),
            ("no-meta", |bytes| without(bytes, &["\"session_meta\""]), NO_META),
        ],
    );
}

#[test]
fn verdicts_agree_with_gemini() {
    agree(
        &Gemini,
        &[
            ("garbage-first", garbage_first, ACTIVE),
            ("empty", |_| Some(Vec::new()), NO_HEADER),
            ("all-garbage", all_garbage, NO_HEADER),
            ("no-header", |bytes| without(bytes, &["\"projectHash\""]), NO_HEADER),
            ("no-messages", |bytes| without(bytes, &["\"type\":"]), EMPTY),
            ("killed-while-opening", emptied, EMPTY),
        ],
    );
}

#[test]
fn verdicts_agree_with_qwen() {
    agree(
        &Qwen,
        &[
            ("garbage-first", garbage_first, ACTIVE),
            ("foreign-first", |bytes| Some([b"{\"a\":1}\n", bytes].concat()), NO_FIRST),
            ("empty", |_| Some(Vec::new()), EMPTY),
            ("all-garbage", all_garbage, EMPTY),
            ("no-messages", |bytes| without(bytes, &["\"user\"", "\"assistant\""]), EMPTY),
            ("broken-chain", broken_chain, EMPTY),
            ("other-directory", other_directory, (Invalid, Some("other_directory"))),
        ],
    );
}

/// True if this version resumes in full what the others of the provider do not.
fn recovers(scene: &Scene, damage: &str) -> bool {
    scene.provider() == "qwen" && damage == "broken-chain" && scene.version != "0.15.10"
}

/// It goes back from the last record, from parent to parent; 0.24 passes over a missing one.
#[expect(clippy::unnecessary_wraps, reason = "one of many damages")]
fn broken_chain(bytes: &[u8]) -> Option<Vec<u8>> {
    let record = br#"{"uuid":"u","parentUuid":"lost","type":"system","cwd":"/"}"#;
    Some([bytes, record, b"\n"].concat())
}

/// It compares the directory in the first record with its own.
fn other_directory(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.replace("/project\"", "/another\"").into_bytes())
}

#[test]
fn verdicts_agree_with_opencode() {
    agree_on_rows(&OPENCODE);
}

#[test]
fn verdicts_agree_with_kilo() {
    agree_on_rows(&KILO);
}

/// In the middle of the last record, as a crash leaves it.
fn truncated_tail(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes.trim_ascii_end().iter().rposition(|byte| *byte == b'\n')?;
    Some(bytes[..usize::midpoint(start, bytes.len())].to_vec())
}

fn garbage_middle(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    lines.insert(lines.len() / 2, b"{\"type\":\"us garbage\n");
    Some(lines.concat())
}

#[expect(clippy::unnecessary_wraps, reason = "one of many damages")]
fn garbage_first(bytes: &[u8]) -> Option<Vec<u8>> {
    Some([b"garbage\n", bytes].concat())
}

#[expect(clippy::unnecessary_wraps, reason = "one of many damages")]
fn all_garbage(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(b"nothing here is JSON\n".repeat(bytes.len() / 20))
}

/// Opening a chat empties it, to fill it again a moment later.
#[expect(clippy::unnecessary_wraps, reason = "one of many damages")]
fn emptied(bytes: &[u8]) -> Option<Vec<u8>> {
    let patch = br#"{"$set":{"messages":[]}}"#;
    Some([bytes, patch, b"\n"].concat())
}

/// Only the lines in which none of these stands.
fn without(bytes: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let kept = text.split_inclusive('\n').filter(|line| !words.iter().any(|w| line.contains(w)));
    Some(kept.collect::<String>().into_bytes())
}

fn agree(cli: &'static dyn RealCli, own: &[Case]) {
    // Each has damages of its own.
    let quick = [QUICK, &["gemini", "opencode", "qwen"]].concat();
    Scene::rows(cli, &quick).for_each(|scene| agrees(scene, own));
}

fn agrees(mut scene: Scene, own: &[Case]) {
    let cli = scene.cli;
    let id = scene.one_shot("alpha question").session_id;
    scene.one_shot("of no interest");
    let transcript = cli.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    let transcript = transcript.strip_prefix(scene.home()).unwrap().to_owned();
    // What all of them judge alike, the slow ones are asked in the long suite.
    let alike = if runs(cli, QUICK) { ALIKE } else { &ALIKE[..1] };
    let cases = [alike, own].concat();
    let values: Vec<PathBuf> =
        cases.iter().map(|(name, ..)| scene.sandbox.home().join("cases").join(name)).collect();
    values.iter().for_each(|value| scene.copy_home(value));
    configure_homes(&mut scene, &values);
    let known = all_sessions(&scene.sandbox);
    assert_eq!(known.len(), 2 * (cases.len() + 1));

    for ((name, damage, expected), value) in cases.iter().zip(&values) {
        let expected = if recovers(&scene, name) { &ACTIVE } else { expected };
        let path = scene.selected(value).join(&transcript);
        match damage(&fs::read(&path).unwrap()) {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let is_it = |session: &&Session| {
            Path::new(&session.home) == scene.selected(value)
                && session.provider_session_id.as_deref() == Some(&id)
        };
        let session = known.iter().find(is_it).unwrap();
        let before = tree_hash(value);
        let found = check(&scene.sandbox, &session.id);
        tree_hash(value).assert_same_as(&before);
        assert_eq!(verdict(&found), *expected, "{name}");
        assert_resume_says(&scene, &found);
        assert_eq!(remembers(&scene, value, &id), expected.0 == Active, "{name}");
    }
}

/// The sessions of a home are rows of one database.
fn agree_on_rows(cli: &'static dyn RealCli) {
    const ARCHIVED: Verdict = (Status::Archived, Some("archived_by_provider"));
    let Some(scene) = Scene::row(cli, &["opencode"]) else { return };
    let id = scene.one_shot("alpha question").session_id;
    scene.one_shot("of no interest");
    let session = scene.session(&id).id;
    let share = scene.sandbox.home().join(".local/share");
    let database = cli.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    let assert_verdict = |expected: Verdict| {
        let before = tree_hash(&share);
        let found = check(&scene.sandbox, &session);
        tree_hash(&share).assert_same_as(&before);
        assert_eq!(verdict(&found), expected);
        assert_resume_says(&scene, &found);
    };
    assert_verdict(ACTIVE);
    assert!(remembers(&scene, &share, &id));
    // It would go on with it, but shows it nowhere.
    let change = |sql: &str| {
        Connection::open(&database).unwrap().execute(sql, [&id]).unwrap();
    };
    change("UPDATE session SET time_archived = time_updated WHERE id = ?1");
    assert_verdict(ARCHIVED);
    change("UPDATE session SET time_archived = NULL WHERE id = ?1");
    assert_verdict(ACTIVE);
    change("DELETE FROM message WHERE session_id = ?1");
    assert_verdict(EMPTY);
    assert!(!remembers(&scene, &share, &id));
    cli.forget(&scene.sandbox, &scene.project, &id);
    assert_verdict(GONE);
    assert!(!remembers(&scene, &share, &id));
    fs::write(&database, "this is not a database").unwrap();
    let found = check(&scene.sandbox, &session);
    assert_eq!(verdict(&found), (Status::Unknown, Some("home_unreadable")));
}

/// True if the CLI continues the conversation with its context.
fn remembers(scene: &Scene, value: &Path, id: &str) -> bool {
    let arguments = scene.cli.one_shot_arguments(Some(id), "beta question");
    let variable = Some((scene.variable(), value.to_str().unwrap()));
    let output = scene.run(&arguments, variable);
    let answer = scene.cli.parse(&output.stdout).filter(|_| output.status == 0);
    answer.is_some_and(|answer| {
        answer.session_id == id && answer.text.contains("first='alpha question")
    })
}

/// A plan, or exit code 5 with the reason.
fn assert_resume_says(scene: &Scene, session: &Session) {
    let output = scene.sandbox.sessctl(&["resume", "--plan", &session.id]);
    let refused = if session.status == Active { 0 } else { 5 };
    assert_eq!(output.status, refused, "{output:#?}");
    let reason = session.reason.map(sessd_proto::Reason::as_str).unwrap_or_default();
    assert!(output.stderr.contains(reason), "{output:#?}");
}

fn configure_homes(scene: &mut Scene, values: &[PathBuf]) {
    let homes: Vec<_> = values.iter().map(|value| scene.selected(value)).collect();
    let config = format!("[homes]\n{} = {homes:?}\n", scene.provider());
    scene.sandbox.write(".config/sessd/config.toml", config);
}

/// A fork holds only what came after it, so it goes with its parent (trap 11).
#[test]
fn trap_11_codex_forks_need_their_parents() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let parent = scene.one_shot("alpha question").session_id;
    scene.one_shot("of no interest");
    let arguments = ["exec", "fork", "--json", "--skip-git-repo-check", &parent, "beta question"];
    let run = scene.run(&arguments.map(str::to_owned), None);
    let fork = Codex.answer(run).session_id;
    let found = scene.session(&fork);
    assert_eq!(found.parent_id, Some(scene.session(&parent).id));
    assert_eq!(verdict(&check(&scene.sandbox, &found.id)), ACTIVE);

    let codex = |word: &str| scene.run(&[word.to_owned(), parent.clone()], None);
    assert_eq!(codex("archive").status, 0);
    assert_eq!(verdict(&check(&scene.sandbox, &found.id)), ACTIVE, "its parent is only archived");
    assert!(remembers(&scene, &scene.home(), &fork));
    assert_eq!(codex("unarchive").status, 0);

    let rollout = Codex.transcript(&scene.sandbox, &scene.project, &parent).unwrap();
    fs::remove_file(rollout).unwrap();
    let found = check(&scene.sandbox, &found.id);
    assert_eq!(verdict(&found), (Invalid, Some("lineage_missing")));
    assert_eq!(verdict(&check(&scene.sandbox, &found.parent_id.unwrap())), GONE);
    assert!(!remembers(&scene, &scene.home(), &fork));
}

#[test]
fn verdicts_agree_with_codex_on_archived_sessions() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let id = scene.one_shot("alpha question").session_id;
    let session = scene.session(&id);
    assert_eq!(scene.run(&["archive".to_owned(), id.clone()], None).status, 0);
    let found = check(&scene.sandbox, &session.id);
    assert_eq!(verdict(&found), (Status::Archived, Some("archived_by_provider")));
    assert_resume_says(&scene, &found);
    assert!(!remembers(&scene, &scene.home(), &id));
    assert_eq!(scene.run(&["unarchive".to_owned(), id.clone()], None).status, 0);
    assert_eq!(verdict(&check(&scene.sandbox, &session.id)), ACTIVE);
}
