//! Promise: what `sessctl providers` says of a CLI is proven against the CLI itself. Each cell of
//! the table is here with the test that fails when it is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use sessd::providers;
use sessd_proto::Timestamp;
use sessd_proto::provider::{ProviderInfo, ProvidersResponse};
use sessd_tests::model_server::ModelServer;
use sessd_tests::real_cli::{self, Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Sandbox;

use crate::scene::{QUICK, Scene, answer, run_job, set_age};
use crate::{BINARIES, CURSOR};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The sources of the tests of capabilities.
const SOURCES: [&str; 8] = [
    include_str!("cursor.rs"),
    include_str!("turns.rs"),
    include_str!("new.rs"),
    include_str!("capabilities.rs"),
    include_str!("discover.rs"),
    include_str!("live.rs"),
    include_str!("resume_refused.rs"),
    concat!(include_str!("resume_real.rs"), include_str!("verdicts.rs")),
];

const ELSEWHERE: &str = "resume_without_its_directory_asks_for_one_where_possible";

/// The provider without a CLI of its own: its program is sessd itself.
const BUILT_IN: &str = "echo";

/// Everything that a CLI may be able to do.
const CELLS: [&str; 9] = [
    "discover",
    "check",
    "resume",
    "resume_anywhere",
    "send",
    "choose_id",
    "fork",
    "foreign_use",
    "retention",
];

/// For each CLI, in the order of the cells: whether it can, and the test that fails if not.
const PROVEN: &[(&str, [(bool, &str); 9])] = &[
    (
        "claude",
        [
            (true, "discover_claude"),
            (true, "verdicts_agree_with_claude"),
            (true, "resume_continues_claude"),
            (true, ELSEWHERE),
            (true, "turns_of_claude_go_on_and_fail_honestly"),
            (true, "new_starts_claude"),
            (true, "fork_continues_a_copy_of_claude"),
            (true, "live_claude_in_another_terminal_is_seen"),
            (true, "retention_of_claude_is_what_it_deletes"),
        ],
    ),
    (
        "codex",
        [
            (true, "discover_codex"),
            (true, "verdicts_agree_with_codex"),
            (true, "resume_continues_codex"),
            (true, ELSEWHERE),
            (true, "turns_of_codex_go_on_and_fail_honestly"),
            (false, "new_starts_codex"),
            (true, "fork_continues_a_copy_of_codex"),
            (true, "live_codex_in_another_terminal_is_seen"),
            (false, "retention_of_codex_is_none"),
        ],
    ),
    (
        "gemini",
        [
            (true, "discover_gemini"),
            (true, "verdicts_agree_with_gemini"),
            (true, "resume_continues_gemini"),
            (false, ELSEWHERE),
            (true, "turns_of_gemini_go_on_and_fail_honestly"),
            (true, "new_starts_gemini"),
            (false, "fork_is_refused_where_the_cli_cannot"),
            (false, "live_gemini_is_unknown_but_for_our_lease"),
            (true, "retention_of_gemini_is_what_it_deletes"),
        ],
    ),
    (
        "opencode",
        [
            (true, "discover_opencode"),
            (true, "verdicts_agree_with_opencode"),
            (true, "resume_continues_opencode"),
            (false, ELSEWHERE),
            (true, "turns_of_opencode_go_on_and_fail_honestly"),
            (false, "new_starts_opencode"),
            (true, "fork_continues_a_copy_of_opencode"),
            (false, "live_opencode_is_unknown_but_for_our_lease"),
            (false, "retention_of_opencode_is_none"),
        ],
    ),
    (
        "kilo",
        [
            (true, "discover_kilo"),
            (true, "verdicts_agree_with_kilo"),
            (true, "resume_continues_kilo"),
            (false, ELSEWHERE),
            (true, "turns_of_kilo_go_on_and_fail_honestly"),
            (false, "new_starts_kilo"),
            (true, "fork_continues_a_copy_of_kilo"),
            (false, "live_kilo_is_unknown_but_for_our_lease"),
            (false, "retention_of_kilo_is_none"),
        ],
    ),
    (
        "qwen",
        [
            (true, "discover_qwen"),
            (true, "verdicts_agree_with_qwen"),
            (true, "resume_continues_qwen"),
            (false, ELSEWHERE),
            (true, "turns_of_qwen_go_on_and_fail_honestly"),
            (true, "new_starts_qwen"),
            (true, "fork_of_qwen_is_that_of_its_version"),
            (true, "live_qwen_in_another_terminal_is_seen_by_its_version"),
            (false, "retention_of_qwen_is_none"),
        ],
    ),
    (
        "cursor",
        [
            (true, "discover_cursor"),
            (true, "verdicts_of_cursor_are_those_of_its_stores"),
            (true, "resume_continues_cursor"),
            (true, "resume_of_cursor_goes_on_in_another_directory"),
            (true, "turns_of_cursor_go_on_and_fail_honestly"),
            (true, "new_starts_cursor"),
            (false, "fork_is_refused_where_the_cli_cannot"),
            (true, "live_cursor_at_work_is_seen"),
            (false, "retention_of_cursor_is_none"),
        ],
    ),
];

#[test]
fn every_capability_is_backed_by_a_test() {
    let sandbox = Sandbox::new(BINARIES);
    let table: ProvidersResponse =
        serde_json::from_value(answer(&sandbox, &["providers"])).unwrap();
    let ids = providers::ALL.iter().map(|it| it.id()).filter(|id| *id != BUILT_IN);
    for provider in ids {
        let cells = PROVEN.iter().find(|(id, _)| *id == provider).map(|(_, cells)| *cells);
        let cells = cells.unwrap_or_else(|| panic!("{provider} has no row in PROVEN"));
        let row = table.providers.iter().find(|row| row.name == provider).unwrap();
        let shown = serde_json::to_value(row.capabilities).unwrap();
        let shown: BTreeMap<String, bool> = serde_json::from_value(shown).unwrap();
        let names = CELLS.iter().map(|cell| (*cell).to_owned());
        let proven: BTreeMap<String, bool> = names.zip(cells.map(|(can, _)| can)).collect();
        assert_eq!(shown, proven, "{provider}");
        for (cell, (can, test)) in CELLS.iter().zip(cells) {
            let is_test = |source: &&str| source.contains(&format!("#[test]\nfn {test}()"));
            let backed = SOURCES.iter().any(is_test);
            assert!(backed, "{provider} {cell} ({can}) is not backed by `{test}`");
        }
    }
}

/// A provider whose CLI the tests do not drive would be proven by nothing.
#[test]
fn every_provider_has_a_real_cli_that_tests_drive() {
    let driven = || real_cli::ALL.iter().map(|cli| cli.provider()).chain([CURSOR.provider()]);
    for provider in providers::ALL.iter().map(|it| it.id()).filter(|id| *id != BUILT_IN) {
        let is_driven = driven().any(|driven| driven == provider);
        assert!(is_driven, "{provider} has no file in tests/src/real_cli/");
    }
}

/// Program and version are those of the package, told without running it.
#[test]
fn providers_shows_the_programs_that_are_installed() {
    let server = ModelServer::start();
    let mut sandbox = Sandbox::new(BINARIES);
    for cli in real_cli::ALL {
        if !cli.prepare(&mut sandbox, &server, &[]) {
            continue;
        }
        answer(&sandbox, &["daemon", "restart"]);
        let mut table = answer(&sandbox, &["providers"]);
        let table: Vec<ProviderInfo> = serde_json::from_value(table["providers"].take()).unwrap();
        let row = table.iter().find(|row| row.name == cli.cli().name).unwrap();
        assert_eq!(row.version.as_deref(), Some(cli.cli().version));
        assert!(row.program.as_deref().is_some_and(|path| path.ends_with(cli.cli().name)));
    }
}

/// By the age of the file: what has passed its time goes when the CLI next tidies up.
#[test]
fn retention_of_claude_is_what_it_deletes() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let [old, young] = ["alpha question", "beta question"].map(|it| scene.one_shot(it).session_id);
    let path = |id: &str| Claude.transcript(&scene.sandbox, &scene.project, id);
    set_age(&path(&old).unwrap(), 30 * DAY + DAY / 24);
    set_age(&path(&young).unwrap(), 30 * DAY - DAY / 24);
    assert_predicted(&scene, &old, &young);
    // It tidies up about ten seconds after its start, if it runs that long.
    scene.one_shot("gamma [[sleep 15]]");
    assert!(path(&old).is_none());
    assert!(path(&young).is_some());
}

/// By the time of the last change in the chat: it tidies up at every start.
#[test]
fn retention_of_gemini_is_what_it_deletes() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let [old, young] = ["alpha question", "beta question"].map(|it| scene.one_shot(it).session_id);
    let path = |id: &str| Gemini.transcript(&scene.sandbox, &scene.project, id);
    for (id, age) in [(&old, 30 * DAY + DAY / 24), (&young, 30 * DAY - DAY / 24)] {
        let at = Timestamp(i64::try_from((now() - age).as_millis()).unwrap());
        let mut text = std::fs::read_to_string(path(id).unwrap()).unwrap();
        text += &format!("{{\"$set\":{{\"lastUpdated\":\"{at}\"}}}}\n");
        std::fs::write(path(id).unwrap(), text).unwrap();
    }
    assert_predicted(&scene, &old, &young);
    scene.one_shot("gamma question");
    assert!(path(&old).is_none() && path(&young).is_some());
}

/// The expiry of one is over, the other's is near.
fn assert_predicted(scene: &Scene, old: &str, young: &str) {
    run_job(&scene.sandbox, "discovery");
    let at = |id: &str| scene.session(id).expires_at.unwrap();
    let now = Timestamp(i64::try_from(now().as_millis()).unwrap());
    let hours = |count: i64| count * 3_600_000;
    assert!(at(old) < now && at(old) > now.plus_ms(-hours(2)));
    assert!(at(young) > now && at(young) < now.plus_ms(hours(2)));
}

#[test]
fn retention_of_codex_is_none() {
    never_deleted(&Codex);
}

#[test]
fn retention_of_qwen_is_none() {
    never_deleted(&Qwen);
}

#[test]
fn retention_of_cursor_is_none() {
    never_deleted(CURSOR);
}

#[test]
fn retention_of_opencode_is_none() {
    never_deleted(&OPENCODE);
}

#[test]
fn retention_of_kilo_is_none() {
    never_deleted(&KILO);
}

/// A session of years ago is still there and can be resumed.
fn never_deleted(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let id = scene.one_shot("alpha question").session_id;
    let transcript = cli.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    if scene.has_database() {
        let age = i64::try_from((1000 * DAY).as_millis()).unwrap();
        for table in ["session", "message", "part"] {
            let sql = format!(
                "UPDATE {table} SET time_created = time_created - ?1,
                     time_updated = time_updated - ?1"
            );
            Connection::open(&transcript).unwrap().execute(&sql, [age]).unwrap();
        }
    } else {
        set_age(&transcript, 1000 * DAY);
    }
    assert_eq!(scene.session(&id).expires_at, None);
    scene.one_shot("gamma question");
    let run = cli.one_shot_resume(&scene.sandbox, &scene.project, &id, "beta question");
    assert!(run.text.contains("turns=2"));
}

fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap()
}
