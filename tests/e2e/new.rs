//! Promise: a session that is started through us is ours from its first moment, is bound to the
//! provider's id, and its lease and keys follow the process into the next session.

use rusqlite::Connection;
use serde_json::Value;
use sessd::providers::{self, Version};
use sessd_proto::{Live, LiveState, Session, Status};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::terminal::Terminal;
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::bad_input::assert_fault;
use crate::scene::{QUICK, Scene, answer, fault, is_in, run_job, sessions, show, wait_for_live};
use crate::{BINARIES, CURSOR};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";
const BETA: &str = "FAKE turns=2 first='alpha question' last='beta question'";

#[test]
fn new_starts_claude() {
    starts_and_binds(&Claude);
}

#[test]
fn new_starts_codex() {
    starts_and_binds(&Codex);
}

#[test]
fn new_starts_gemini() {
    starts_and_binds(&Gemini);
}

#[test]
fn new_starts_qwen() {
    starts_and_binds(&Qwen);
}

#[test]
fn new_starts_cursor() {
    starts_and_binds(CURSOR);
}

#[test]
fn new_starts_opencode() {
    starts_and_binds(&OPENCODE);
}

#[test]
fn new_starts_kilo() {
    starts_and_binds(&KILO);
}

/// Opens `sessctl new` in the project.
fn begin(scene: &Scene) -> Terminal {
    let mut command = scene.sandbox.command(BINARIES.sessctl);
    command.args(["new", scene.provider()]).current_dir(&scene.project);
    let terminal = Terminal::spawn(command, 40, 120);
    let ready = match scene.provider() {
        "claude" => "Claude Code v",
        "codex" => "OpenAI Codex",
        "opencode" | "kilo" => "Ask anything",
        "cursor" => "Cursor Agent",
        _ => "Type your message",
    };
    terminal.wait_for_text(ready, DEADLINE);
    terminal
}

/// Waits for the one session that a process has open.
fn open_session(scene: &Scene) -> Session {
    wait_until("an open session", DEADLINE, || {
        let mut busy = sessions(&scene.sandbox, &["list", "--busy"]);
        (busy.len() == 1).then(|| busy.remove(0))
    })
}

/// The session once a sweep knows it as the provider does.
fn settled(scene: &Scene, id: &str) -> Session {
    wait_until("a session with a transcript", DEADLINE, || {
        run_job(&scene.sandbox, "discovery");
        let is_whole = |it: &Session| it.status == Status::Active && it.title.is_some();
        Some(show(&scene.sandbox, id)).filter(is_whole)
    })
}

/// Only a row of a database says which session a process of OpenCode has begun.
fn starts_and_binds(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, &[QUICK, &["opencode"]].concat()) else { return };
    let mut terminal = begin(&scene);
    let starting = open_session(&scene);
    assert_eq!(starting.status, Status::Unknown);
    assert_eq!(starting.reason.map(sessd_proto::Reason::as_str), Some("starting"));
    assert_eq!(starting.launch_dir, scene.project.to_str().unwrap());
    assert!(is_in(starting.live.pid.unwrap(), terminal.pid()));
    let id = starting.id;
    fault(&scene.sandbox, &["resume", &id], 4);
    cli.prompt(&terminal, "alpha question");
    terminal.wait_for_text(ALPHA, DEADLINE);

    let bound = settled(&scene, &id);
    assert_eq!(bound.title.as_deref(), Some("alpha question"));
    let theirs = bound.provider_session_id.unwrap();
    assert!(cli.transcript(&scene.sandbox, &scene.project, &theirs).is_some());
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 1, "it is there twice");
    cli.quit(&mut terminal);
    let mut terminal = scene.resume(&[&id], &scene.elsewhere);
    terminal.wait_for_text(ALPHA, DEADLINE);
    cli.quit(&mut terminal);
}

/// Also where the daemon knows nothing of that home yet.
#[test]
fn new_starts_in_the_home_that_the_calling_shell_selects() {
    for cli in [&Claude as &'static dyn RealCli, &Codex] {
        let Some(scene) = Scene::of(cli) else { continue };
        let moved = scene.sandbox.home().join("moved");
        scene.copy_home(&moved);
        answer(&scene.sandbox, &["daemon", "start"]);
        let mut command = scene.sandbox.command(BINARIES.sessctl);
        command.args(["--json", "send", "--new", scene.provider(), "alpha question"]);
        command.current_dir(&scene.project).env(scene.variable(), &moved);
        let sent = scene.sandbox.run(&mut command, DEADLINE);
        assert_eq!(sent.status, 0, "{sent:?}");
        let [ref session] = sessions(&scene.sandbox, &["list"])[..] else { panic!("not one") };
        assert_eq!(session.home, moved.to_str().unwrap());
        let theirs = session.provider_session_id.as_deref().unwrap();
        let below = |folder| {
            let files = files_below(folder).into_iter();
            files.filter(|path| path.to_str().unwrap().contains(theirs)).count()
        };
        assert!(below(&moved) > 0, "nothing of it is there");
        assert_eq!(below(&scene.home()), 0, "something of it is in the default home");
        let again = scene.sandbox.sessctl(&["send", &session.id, "beta question"]);
        assert_eq!((again.status, &*again.stdout), (0, &*format!("{BETA}\n")), "{again:?}");
    }
}

/// A sweep finds the transcript before it is bound to its session.
#[test]
fn new_codex_takes_over_what_a_sweep_has_found() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let mut terminal = begin(&scene);
    let id = open_session(&scene).id;
    Codex.prompt(&terminal, "alpha question");
    terminal.wait_for_text(ALPHA, DEADLINE);
    let theirs = settled(&scene, &id).provider_session_id.unwrap();
    // As if the sweep had been faster than the look at the locks. One that runs now would see half
    // of what it was and half of that.
    assert_eq!(scene.sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let registry = Connection::open(scene.sandbox.state_dir().join("sessd.db")).unwrap();
    registry
        .execute_batch(
            "BEGIN IMMEDIATE; UPDATE bindings SET provider_session_id = NULL;
             DELETE FROM files; DELETE FROM leases; COMMIT",
        )
        .unwrap();
    answer(&scene.sandbox, &["daemon", "start"]);
    let found = wait_until("what the sweep found", DEADLINE, || scene.find(&theirs));
    assert_ne!(found.id, id);
    answer(&scene.sandbox, &["tag", &found.id, "kept"]);
    answer(&scene.sandbox, &["pin", &found.id]);
    let start_ticks = sessd::process::start_ticks(terminal.pid()).unwrap().cast_signed();
    let lease = "INSERT INTO leases VALUES (?1, ?2, ?3, ?4, 'interactive', 0)";
    let boot_id = sessd::process::boot_id();
    registry.execute(lease, (&id, terminal.pid(), start_ticks, boot_id)).unwrap();

    let merged = settled(&scene, &id);
    assert_eq!(merged.provider_session_id, Some(theirs));
    assert_eq!((&merged.tags[..], merged.pinned), (&["kept".to_owned()][..], true));
    let tagged = sessions(&scene.sandbox, &["list", "--tag", "kept"]);
    assert_eq!(tagged.iter().map(|it| &*it.id).collect::<Vec<_>>(), [&*id]);
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 1);
    Codex.quit(&mut terminal);
}

/// Going back to an old session in the terminal of a new one: neither takes the other over.
#[test]
fn new_codex_back_in_an_old_session_takes_the_lease_there() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let old = scene.session(&asked).id;
    let started = answer(&scene.sandbox, &["new", "codex"]);
    let new = started["session"]["id"].as_str().unwrap().to_owned();
    let mut terminal = Codex.tui_resume(&scene.sandbox, &scene.project, &asked);
    terminal.wait_for_text(ALPHA, DEADLINE);
    // As if it had been started for the new one.
    let registry = Connection::open(scene.sandbox.state_dir().join("sessd.db")).unwrap();
    let start_ticks = sessd::process::start_ticks(terminal.pid()).unwrap().cast_signed();
    let lease = "INSERT INTO leases VALUES (?1, ?2, ?3, ?4, 'interactive', 0)";
    let boot_id = sessd::process::boot_id();
    registry.execute(lease, (&new, terminal.pid(), start_ticks, boot_id)).unwrap();
    wait_for_live(&scene.sandbox, &old, "an old session in use", Live::blocks);
    run_job(&scene.sandbox, "discovery");
    assert_eq!(show(&scene.sandbox, &old).provider_session_id, Some(asked));
    assert_eq!(show(&scene.sandbox, &new).provider_session_id, None);
    let count = "SELECT count(*) FROM leases WHERE session_id = ?1";
    let held = |id: &str| registry.query_row(count, [id], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((held(&old), held(&new)), (1, 0));
    Codex.quit(&mut terminal);
}

/// `/clear` begins another session in the same process.
#[test]
fn new_claude_is_followed_when_it_clears() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let mut terminal = begin(&scene);
    let first = open_session(&scene).id;
    Claude.prompt(&terminal, "alpha question");
    terminal.wait_for_text(ALPHA, DEADLINE);
    settled(&scene, &first);
    let registry = Connection::open(scene.sandbox.state_dir().join("sessd.db")).unwrap();
    registry.execute("INSERT INTO keys VALUES ('@person', ?1)", [&first]).unwrap();

    Claude.prompt(&terminal, "/clear");
    Claude.prompt(&terminal, "gamma question");
    terminal.wait_for_text("FAKE turns=1 first='gamma question'", DEADLINE);
    let second = wait_until("the session after it", DEADLINE, || {
        run_job(&scene.sandbox, "discovery");
        let listed = sessions(&scene.sandbox, &["list"]);
        listed.into_iter().find(|it| it.parent_id.as_ref() == Some(&first))
    });
    assert_eq!(second.keys, ["@person"]);
    assert!(second.live.blocks());
    fault(&scene.sandbox, &["resume", &second.id], 4);
    let left = show(&scene.sandbox, &first);
    assert_eq!((left.live.state, left.status), (LiveState::None, Status::Active));
    assert!(left.keys.is_empty());
    Claude.quit(&mut terminal);
    wait_until("the end of the lease", DEADLINE, || {
        (show(&scene.sandbox, &second.id).live.state == LiveState::None).then_some(())
    });
}

#[test]
fn fork_continues_a_copy_of_claude() {
    forks(&Claude);
}

#[test]
fn fork_continues_a_copy_of_codex() {
    forks(&Codex);
}

#[test]
fn fork_continues_a_copy_of_opencode() {
    forks(&OPENCODE);
}

#[test]
fn fork_continues_a_copy_of_kilo() {
    forks(&KILO);
}

/// Qwen Code has learned it; an older version is named in the refusal.
#[test]
fn fork_of_qwen_is_that_of_its_version() {
    let version = Qwen.cli().version;
    let can = providers::by_id("qwen").unwrap().forks_of(Version::parse(version)).is_some();
    if can {
        return forks_by_a_turn(&Qwen);
    }
    let Some(scene) = Scene::of(&Qwen) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let refused = fault(&scene.sandbox, &["resume", "--fork", &asked], 1);
    let named = format!("qwen {version} cannot fork a session");
    assert!(refused.message.contains(&named), "{refused:?}");
}

/// The copy goes its own way while another process has the original.
fn forks(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let original = cli.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
    let before = std::fs::read(&original).unwrap();

    let mut terminal = scene.resume(&["--fork", &id], &scene.elsewhere);
    terminal.wait_for_text(ALPHA, DEADLINE);
    cli.prompt(&terminal, "beta question");
    terminal.wait_for_text(BETA, DEADLINE);
    let copy = wait_until("the copy", DEADLINE, || {
        run_job(&scene.sandbox, "discovery");
        let listed = sessions(&scene.sandbox, &["list"]);
        assert!(listed.len() <= 2, "{listed:#?}");
        listed.into_iter().find(|it| it.parent_id.is_some() && it.status == Status::Active)
    });
    assert_eq!(copy.parent_id.as_ref(), Some(&id));
    assert_ne!(copy.provider_session_id.as_ref(), Some(&asked));
    assert!(copy.live.blocks());
    assert!(!show(&scene.sandbox, &id).live.blocks());
    if scene.has_database() {
        let again = cli.one_shot_resume(&scene.sandbox, &scene.project, &asked, "gamma question");
        assert!(again.text.contains("turns=2"), "it has the prompt of its copy: {again:?}");
    } else {
        assert_eq!(std::fs::read(&original).unwrap(), before);
    }
    cli.quit(&mut terminal);
}

#[test]
fn fork_by_a_turn_leaves_the_original_of_opencode_as_it_was() {
    forks_by_a_turn(&OPENCODE);
}

#[test]
fn fork_by_a_turn_leaves_the_original_of_kilo_as_it_was() {
    forks_by_a_turn(&KILO);
}

/// Also with an agent that may edit: `permissions_real` leaves that to this test.
fn forks_by_a_turn(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, &["opencode", "qwen"]) else { return };
    let agent =
        format!("[agents.editor]\nprovider = '{}'\npermission = 'edit'\n", scene.provider());
    scene.sandbox.write(".config/sessd/config.toml", agent);
    let project = scene.project.to_str().unwrap();
    let words = ["send", "--new", "editor", "--cwd", project, "alpha question"];
    let id = answer(&scene.sandbox, &words)["session"]["id"].as_str().unwrap().to_owned();
    let forked = scene.sandbox.sessctl(&["send", "--fork", &id, "beta question"]);
    assert_eq!((forked.status, &*forked.stdout), (0, &*format!("{BETA}\n")), "{forked:?}");
    assert!(!forked.stderr.contains(&id), "{forked:?}");
    let again = scene.sandbox.sessctl(&["send", &id, "gamma question"]);
    assert!(again.stdout.starts_with("FAKE turns=2 "), "{again:?}");
    let listed = sessions(&scene.sandbox, &["list"]);
    let copy = listed.iter().find(|it| it.id != id).expect("the copy");
    assert_eq!((listed.len(), copy.parent_id.as_deref()), (2, Some(&*id)));
}

#[test]
fn fork_is_refused_where_the_cli_cannot() {
    for cli in [&Gemini as &'static dyn RealCli, CURSOR] {
        let Some(scene) = Scene::row(cli, QUICK) else { continue };
        let asked = scene.one_shot("alpha question").session_id;
        let calls = scene.replace_cli();
        let refused = fault(&scene.sandbox, &["resume", "--fork", &asked], 1);
        assert!(refused.message.contains(&format!("{} cannot", scene.provider())), "{refused:?}");
        assert_eq!(calls.seen(), [""; 0]);
        let listed: Value = answer(&scene.sandbox, &["list"]);
        assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
        assert_fault(&scene.sandbox.sessctl(&["new", "nobody"]), 3, "no such agent");
    }
}
