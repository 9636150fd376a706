//! Promise: what `sessctl providers` says of a CLI is proven against the CLI itself. Each cell of
//! the table is here with the test that fails when it is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use sessd_proto::Timestamp;
use sessd_proto::provider::{ProviderInfo, ProvidersResponse};
use sessd_tests::model_server::ModelServer;
use sessd_tests::real_cli::{self, Claude, Gemini, RealCli};
use sessd_tests::sandbox::Sandbox;

use crate::BINARIES;
use crate::scene::{Scene, answer, run_job, set_age};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the tests are.
const SOURCES: [&str; 7] = [
    include_str!("turns.rs"),
    include_str!("new.rs"),
    include_str!("capabilities.rs"),
    include_str!("discover.rs"),
    include_str!("live.rs"),
    include_str!("resume_refused.rs"),
    concat!(include_str!("resume_real.rs"), include_str!("verdicts.rs")),
];

const ELSEWHERE: &str = "resume_of_a_session_without_its_directory_needs_another_where_the_cli_can";

/// Capability, what it is for Claude Code, Codex and Gemini CLI, and the tests of each.
const PROVEN: [(&str, [bool; 3], [&str; 3]); 9] = [
    ("discover", [true; 3], ["discover_claude", "discover_codex", "discover_gemini"]),
    (
        "check",
        [true; 3],
        ["verdicts_agree_with_claude", "verdicts_agree_with_codex", "verdicts_agree_with_gemini"],
    ),
    (
        "resume",
        [true; 3],
        ["resume_continues_claude", "resume_continues_codex", "resume_continues_gemini"],
    ),
    ("resume_anywhere", [true, true, false], [ELSEWHERE; 3]),
    (
        "send",
        [true; 3],
        [
            "turns_of_claude_go_on_and_fail_honestly",
            "turns_of_codex_go_on_and_fail_honestly",
            "turns_of_gemini_go_on_and_fail_honestly",
        ],
    ),
    (
        "choose_id",
        [true, false, true],
        ["new_begins_claude", "new_begins_codex", "new_begins_gemini"],
    ),
    (
        "fork",
        [true, true, false],
        [
            "fork_continues_a_copy_of_claude",
            "fork_continues_a_copy_of_codex",
            "fork_is_refused_where_the_cli_cannot",
        ],
    ),
    (
        "foreign_use",
        [true, true, false],
        [
            "live_claude_in_another_terminal_is_seen",
            "live_codex_in_another_terminal_is_seen",
            "live_gemini_is_unknown_but_for_our_lease",
        ],
    ),
    (
        "retention",
        [true, false, true],
        [
            "retention_of_claude_is_what_it_deletes",
            "retention_of_codex_is_none",
            "retention_of_gemini_is_what_it_deletes",
        ],
    ),
];

#[test]
fn every_capability_is_backed_by_a_test() {
    let sandbox = Sandbox::new(BINARIES);
    let table: ProvidersResponse =
        serde_json::from_value(answer(&sandbox, &["providers"])).unwrap();
    for (index, name) in ["claude", "codex", "gemini"].into_iter().enumerate() {
        let row = table.providers.iter().find(|row| row.name == name).unwrap();
        let shown = serde_json::to_value(row.capabilities).unwrap();
        let shown: BTreeMap<String, bool> = serde_json::from_value(shown).unwrap();
        let proven: BTreeMap<String, bool> =
            PROVEN.iter().map(|(cell, can, _)| ((*cell).to_owned(), can[index])).collect();
        assert_eq!(shown, proven, "{name}");
    }
    for (cell, can, tests) in PROVEN {
        for (can, test) in can.into_iter().zip(tests) {
            let is_test = |source: &&str| source.contains(&format!("#[test]\nfn {test}()"));
            let backed = SOURCES.iter().any(is_test);
            assert!(backed, "{cell} ({can}) is not backed by `{test}`");
        }
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

/// A session of years ago is still there and can be resumed.
#[test]
fn retention_of_codex_is_none() {
    let codex = &real_cli::Codex;
    let Some(scene) = Scene::of(codex) else { return };
    let id = scene.one_shot("alpha question").session_id;
    let rollout = codex.transcript(&scene.sandbox, &scene.project, &id).unwrap();
    set_age(&rollout, 1000 * DAY);
    assert_eq!(scene.session(&id).expires_at, None);
    scene.one_shot("gamma question");
    let run = codex.one_shot_resume(&scene.sandbox, &scene.project, &id, "beta question");
    assert!(run.text.contains("turns=2"));
}

fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap()
}
