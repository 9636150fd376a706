//! Promise: a session that a CLI made behind our back is in the list, with what its transcript
//! says of it: at a first start, by file notification, and by the sweep.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use sessd_proto::{Kind, Session, Status, Timestamp};
use sessd_tests::real_cli::{self, Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::CURSOR;
use crate::scene::{QUICK, Scene, answer, sessions};

#[test]
fn discover_claude() {
    finds_what_the_cli_made(&Claude);
}

#[test]
fn discover_codex() {
    finds_what_the_cli_made(&Codex);
}

#[test]
fn discover_gemini() {
    finds_what_the_cli_made(&Gemini);
}

#[test]
fn discover_qwen() {
    finds_what_the_cli_made(&Qwen);
}

#[test]
fn discover_cursor() {
    finds_what_the_cli_made(CURSOR);
}

#[test]
fn discover_opencode() {
    finds_what_the_cli_made(&OPENCODE);
}

#[test]
fn discover_kilo() {
    finds_what_the_cli_made(&KILO);
}

/// Nothing but notifications can bring the second half into the list: the sweep never comes. A
/// database is written in another way than the files of the others.
fn finds_what_the_cli_made(cli: &'static dyn RealCli) {
    Scene::rows(cli, &[QUICK, &["opencode"]].concat()).for_each(|scene| finds(&scene));
}

fn finds(scene: &Scene) {
    let cli = scene.cli;
    let start = now();
    let first = scene.one_shot("alpha question").session_id;
    let found = scene.session(&first);
    assert_says_what_happened(scene, &found, start);

    // The watch begins a little after the first list.
    let transcript = cli.transcript(&scene.sandbox, &scene.project, &first).unwrap();
    scene.sandbox.wait_until_watched(transcript.parent().unwrap());
    let second_turn = now();
    cli.one_shot_resume(&scene.sandbox, &scene.project, &first, "beta question");
    let later = wait_until("the second turn in the list", DEADLINE, || {
        scene.find(&first).filter(|session| session.last_activity >= second_turn)
    });
    assert_eq!((&later.id, later.created_at), (&found.id, found.created_at));
    assert_eq!(later.title.as_deref(), Some("alpha question"));

    let second = cli.one_shot(&scene.sandbox, &scene.elsewhere, "gamma question").session_id;
    let other = wait_until("a new session in a new directory", DEADLINE, || scene.find(&second));
    assert_eq!(Path::new(&other.launch_dir), scene.elsewhere);
    assert_eq!(sessions(&scene.sandbox, &["list"]).len(), 2);
}

fn assert_says_what_happened(scene: &Scene, session: &Session, start: Timestamp) {
    let project = scene.project.to_str().unwrap();
    assert_eq!(session.provider, scene.provider());
    assert_eq!(Path::new(&session.home), scene.home());
    assert_eq!((&*session.launch_dir, &*session.project), (project, project));
    assert_eq!(session.cwd.as_deref(), Some(project));
    assert_eq!(session.title.as_deref(), Some("alpha question"));
    assert_eq!(
        (session.status, session.reason.map(sessd_proto::Reason::as_str)),
        (Status::Active, None)
    );
    let model = session.model.as_deref().unwrap();
    let (asked, kind) = match scene.provider() {
        "claude" => ("claude-", Kind::Headless),
        "codex" | "opencode" | "kilo" => ("test-model", Kind::Headless),
        "qwen" | "cursor" => ("test-model", Kind::Interactive),
        // Its chats do not tell one-shot runs from others.
        _ => ("gemini-2.5-flash", Kind::Interactive),
    };
    assert!(model.starts_with(asked), "{model}");
    assert_eq!(session.kind, kind);
    let Session { created_at, last_activity, .. } = session;
    assert!(start <= *created_at && created_at <= last_activity && *last_activity <= now());
}

#[test]
fn discover_by_the_sweep_alone() {
    for cli in real_cli::ALL {
        let Some(mut scene) = Scene::row(cli, QUICK) else { continue };
        scene.sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
        scene.sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", "* * * * * *");
        assert!(sessions(&scene.sandbox, &["list"]).is_empty());
        let id = scene.one_shot("alpha question").session_id;
        wait_until("what the sweep found", DEADLINE, || scene.find(&id));
    }
}

/// Also when the next sweep by the schedule is far: a daemon knows nothing before its first.
#[test]
fn discover_what_was_made_while_no_daemon_ran() {
    for cli in real_cli::ALL {
        let Some(scene) = Scene::row(cli, QUICK) else { continue };
        assert!(sessions(&scene.sandbox, &["list"]).is_empty());
        answer(&scene.sandbox, &["daemon", "stop"]);
        let id = scene.one_shot("alpha question").session_id;
        scene.session(&id);
    }
}

/// A project is the git top level of the launch directory; a work tree is one of its own.
#[test]
fn discover_projects_by_git() {
    for cli in real_cli::ALL {
        let Some(mut scene) = Scene::row(cli, QUICK) else { continue };
        let repository = scene.project.clone();
        git(&scene.sandbox, &repository, &["init", "-q"]);
        git(&scene.sandbox, &repository, &["commit", "-q", "--allow-empty", "-m", "first"]);
        let tree = scene.sandbox.home().join("tree");
        git(&scene.sandbox, &repository, &["worktree", "add", "-q", tree.to_str().unwrap()]);
        let [inside, below] = [repository.join("a/b"), tree.join("c")];
        [&inside, &below].into_iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        cli.configure(&mut scene.sandbox, &scene.server, &[&inside, &below]);
        for (dir, project) in [(&inside, &repository), (&below, &tree)] {
            let id = cli.one_shot(&scene.sandbox, dir, "alpha question").session_id;
            let found = wait_until("the session in a repository", DEADLINE, || scene.find(&id));
            assert_eq!(Path::new(&found.launch_dir), dir);
            assert_eq!(Path::new(&found.project), project);
            let here = ["list", "--project", dir.to_str().unwrap()];
            // A sweep in between may find it a moment newer.
            let here: Vec<_> = sessions(&scene.sandbox, &here).into_iter().map(|s| s.id).collect();
            assert_eq!(here, [found.id], "what is listed for {}", dir.display());
        }
    }
}

fn git(sandbox: &Sandbox, dir: &Path, arguments: &[&str]) {
    let mut command = sandbox.command("git");
    command.args(["-c", "user.name=e2e", "-c", "user.email=e2e@localhost"]);
    let output = sandbox.run(command.args(arguments).current_dir(dir), DEADLINE);
    assert_eq!(output.status, 0, "{output:#?}");
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap())
}
