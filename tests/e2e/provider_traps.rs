//! Traps of the real CLIs that belong to no other promise; the others are named `trap_NN_…`
//! where they belong.

use std::fs;
use std::path::PathBuf;

use sessd_proto::{FaultCode, Status};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, RealCli};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::scene::{QUICK, Scene, answer, check, copy, fault, sessions, show, verdict};

/// It looks an id up only inside the current project.
#[test]
fn trap_04_one_claude_id_in_two_projects_is_two_sessions() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let session = format!("--session-id={asked}");
    let mut command = scene.sandbox.command("claude");
    command.args(["-p", "--output-format=json", &session, "--", "beta question"]);
    let run = scene.sandbox.run(command.current_dir(&scene.elsewhere), DEADLINE);
    let is_taken = Claude.parse(&run.stdout).is_some_and(|answer| answer.session_id == asked);
    scene.premise("claude takes the id of another project for a new session", is_taken);

    let found = sessions(&scene.sandbox, &["list"]);
    assert_eq!(found.len(), 2);
    assert_ne!(found[0].id, found[1].id);
    let ambiguous = fault(&scene.sandbox, &["show", &asked], 3);
    assert_eq!(ambiguous.code, FaultCode::Ambiguous);
    for session in &found {
        assert!(ambiguous.message.contains(&session.id), "{}", ambiguous.message);
        assert_eq!(session.provider_session_id.as_deref(), Some(&*asked));
        assert_eq!(show(&scene.sandbox, &session.id), *session);
        let plan = answer(&scene.sandbox, &["resume", "--plan", &session.id]);
        assert_eq!(plan["cwd"], session.launch_dir);
    }
}

/// Started anywhere else it does the turn, has it billed, and never ends.
#[test]
fn trap_06_opencode_is_started_in_its_directory() {
    let Some(scene) = Scene::of(&OPENCODE) else { return };
    let id = scene.session(&scene.one_shot("alpha question").session_id).id;
    let plan = answer(&scene.sandbox, &["resume", "--plan", &id]);
    assert_eq!(plan["cwd"], scene.project.to_str().unwrap());
    let calls = scene.replace_cli();
    let mut send = scene.sandbox.command(BINARIES.sessctl);
    send.args(["send", &id, "beta question"]).current_dir(&scene.elsewhere);
    scene.sandbox.run(&mut send, DEADLINE);
    let call = calls.seen().concat();
    assert!(call.contains(&format!("--dir={}", scene.project.display())), "{call}");
}

/// Two runs of one session at once drive each other on, at the price of a model call each time.
/// That turns of a session wait for each other is tested with quick CLIs in `turns`.
#[test]
fn trap_07_opencode_gets_one_turn_at_a_time() {
    let Some(scene) = Scene::row(&OPENCODE, QUICK) else { return };
    let id = scene.session(&scene.one_shot("alpha question").session_id).id;
    let before = scene.server.requests().len();
    let prompts = ["beta [[sleep 1]]", "gamma [[sleep 1]]"];
    std::thread::scope(|scope| {
        for prompt in prompts {
            let (sandbox, id) = (&scene.sandbox, &id);
            scope.spawn(move || assert_eq!(sandbox.sessctl(&["send", id, prompt]).status, 0));
        }
    });
    let requests = &scene.server.requests()[before..];
    let calls = requests.iter().filter(|request| request.is_turn()).count();
    assert_eq!((calls, requests.len()), (2, 2), "{requests:#?}");
}

/// Resuming in another minute leaves a file with the same id and without a turn.
#[test]
fn trap_10_stub_files_of_gemini_are_not_sessions() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let chat = Gemini.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
    let text = fs::read_to_string(&chat).unwrap();
    let header = text.lines().next().unwrap();
    let context = r#"{"$set":{"messages":[{"id":"0","type":"user","content":
        [{"text":"<session_context>x"}]}]}}"#
        .replace('\n', " ");
    let name = chat.file_name().unwrap().to_str().unwrap();
    // Before and after the real one in the order of names.
    for (minute, records) in [
        ("2020-01-01T00-00", header.to_owned()),
        ("2030-01-01T00-00", format!("{header}\n{context}")),
    ] {
        let stub = format!("session-{minute}-{}", &name[name.len() - "12345678.jsonl".len()..]);
        fs::write(chat.with_file_name(stub), format!("{records}\n")).unwrap();
    }
    crate::scene::run_job(&scene.sandbox, "discovery");
    let listed = sessions(&scene.sandbox, &["list", "--all"]);
    assert_eq!(listed.len(), 1);
    assert_eq!((&*listed[0].id, listed[0].title.as_deref()), (&*id, Some("alpha question")));
    let doomed = Some("deleted_at_next_start");
    assert_eq!(verdict(&check(&scene.sandbox, &id)), (Status::Active, doomed));

    // Of a session whose real file is gone, what is left cannot be resumed.
    let kept = scene.sandbox.home().join("kept.jsonl");
    copy(&chat, &kept);
    fs::remove_file(&chat).unwrap();
    assert_ne!(check(&scene.sandbox, &id).status, Status::Active);
    let run = scene.run(&Gemini.one_shot_arguments(Some(&asked), "beta question"), None);
    assert_eq!(run.status, 42, "{run:#?}");
}

/// By itself the TUI copies 404 MB into its home and starts a daemon that keeps the session
/// locked after the person has left.
#[test]
fn trap_12_codex_is_resumed_without_a_daemon() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let plan = answer(&scene.sandbox, &["resume", "--plan", &id]);
    let is_it = |argument: &serde_json::Value| argument == "--no-daemon";
    assert!(plan["args"].as_array().unwrap().iter().any(is_it), "{plan}");

    let mut terminal = scene.resume(&[&id], &scene.elsewhere);
    terminal.wait_for_text("last='alpha question'", DEADLINE);
    Codex.quit(&mut terminal);
    assert!(!scene.home().join("packages/app-server-daemon").exists());
    assert_eq!(processes_of(&scene, "codex"), [""; 0]);
    let run = Codex.one_shot_resume(&scene.sandbox, &scene.project, &asked, "beta question");
    assert!(run.text.contains("turns=2"), "the session is still locked");
}

/// The command lines of all processes of this sandbox with such a word.
fn processes_of(scene: &Scene, word: &str) -> Vec<String> {
    let home = scene.sandbox.home();
    let home = format!("HOME={}", home.display());
    let of = |pid: PathBuf| {
        let environment = fs::read(pid.join("environ")).ok()?;
        environment.split(|byte| *byte == 0).find(|pair| *pair == home.as_bytes())?;
        let line = String::from_utf8(fs::read(pid.join("cmdline")).ok()?).ok()?;
        line.contains(word).then(|| line.replace('\0', " "))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?.path())).collect()
}

/// A failed call says `"subtype":"success"`.
#[test]
fn trap_02_a_failed_call_of_claude_is_not_a_success() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let words = ["-p", "--output-format=json", "--", "alpha [[status 401]]"].map(str::to_owned);
    let run = scene.run(&words, None);
    let is_success = run.stdout.contains(r#""subtype":"success""#);
    scene.premise("claude calls a refused request a success", is_success);
    let failed = fault(&scene.sandbox, &["send", "--new", "claude", "alpha [[status 401]]"], 6);
    assert_eq!((failed.code, failed.retryable), (FaultCode::ProviderFailed, Some(false)));
    assert!(failed.message.contains("401"), "{}", failed.message);
}

/// Its exit codes are those of HTTP cut to a byte, and 0 when it was ended.
#[test]
fn trap_09_exit_codes_of_gemini_mean_nothing() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let words = ["--output-format=stream-json", "--prompt=alpha [[status 401]]"].map(str::to_owned);
    let status = scene.run(&words, None).status;
    scene.premise("gemini ends with the code of HTTP cut to a byte", status == 401 % 256);
    let new = ["send", "--new", "gemini", "--cwd", scene.project.to_str().unwrap()];
    let failed = fault(&scene.sandbox, &[&new[..], &["alpha [[status 401]]"]].concat(), 6);
    assert_eq!(failed.retryable, Some(false), "{}", failed.message);
    let hangs = [&new[..], &["--timeout", "8s", "alpha [[sleep 600]]"]].concat();
    assert_eq!(fault(&scene.sandbox, &hangs, 7).code, FaultCode::Deadline);
}

/// A resumed turn that is called ephemeral is written into the session all the same.
#[test]
fn trap_13_nothing_of_codex_is_ephemeral() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let rollout = Codex.transcript(&scene.sandbox, &scene.project, &asked).unwrap();
    let before = fs::read(&rollout).unwrap();
    assert_eq!(verdict(&check(&scene.sandbox, &id)), (Status::Active, None));
    assert_eq!(fs::read(&rollout).unwrap(), before, "a check has written");
    let words = ["exec", "resume", "--ephemeral", "--skip-git-repo-check", &asked, "beta"];
    let run = scene.run(&words.map(str::to_owned), None);
    let is_longer = fs::read(&rollout).unwrap().len() > before.len();
    scene.premise("codex writes down an ephemeral turn", run.status == 0 && is_longer);
    let plan = answer(&scene.sandbox, &["resume", "--plan", &id]);
    assert!(!plan.to_string().contains("ephemeral"), "{plan}");
}

/// By itself it calls eleven times in three minutes before it says so.
#[test]
fn trap_15_retries_of_claude_do_not_hide_a_failure() {
    let Some(mut scene) = Scene::of(&Claude) else { return };
    scene.sandbox.set_env("CLAUDE_CODE_MAX_RETRIES", "10");
    let failed = fault(&scene.sandbox, &["send", "--new", "claude", "alpha [[status 429]]"], 6);
    assert_eq!(failed.retryable, Some(true), "{}", failed.message);
    assert_eq!(scene.server.turn_requests().len(), 1);
}

/// It begins another thread in silence when it does not understand the id.
#[test]
fn trap_01_a_stray_codex_thread_is_not_taken_for_the_session() {
    goes_astray(&Codex, "set -- exec --json --skip-git-repo-check -- -");
}

#[test]
fn a_stray_session_of_opencode_is_not_taken_for_the_session() {
    goes_astray(&OPENCODE, WITHOUT_SESSION);
}

#[test]
fn a_stray_session_of_kilo_is_not_taken_for_the_session() {
    goes_astray(&KILO, WITHOUT_SESSION);
}

/// Drops the option that names the session.
const WITHOUT_SESSION: &str = r#"for word; do
    shift
    case $word in --session=*) ;; *) set -- "$@" "$word" ;; esac
done"#;

/// A turn that runs in another session than the one asked for has failed, and is not bound to it.
fn goes_astray(cli: &'static dyn RealCli, change_arguments: &str) {
    let Some(scene) = Scene::row(cli, QUICK) else { return };
    let project = scene.project.to_str().unwrap();
    let new = ["send", "--new", scene.provider(), "--cwd", project, "alpha question"];
    let sent = answer(&scene.sandbox, &new);
    let id = sent["session"]["id"].as_str().unwrap().to_owned();
    let theirs = show(&scene.sandbox, &id).provider_session_id;
    let real = scene.sandbox.home().join("../bin").join(scene.program());
    let real = fs::canonicalize(real).unwrap();
    let script = format!("#!/bin/sh\n{change_arguments}\nexec '{}' \"$@\"\n", real.display());
    let stray = scene.sandbox.script("stray", script);
    scene.sandbox.link(scene.program(), &stray);
    let failed = fault(&scene.sandbox, &["send", &id, "beta question"], 6);
    assert!(failed.message.contains("another session"), "{}", failed.message);
    let after = show(&scene.sandbox, &id);
    assert_eq!(after.provider_session_id, theirs, "bound to the stray one");
    assert_eq!(verdict(&after), (Status::Active, None));
    scene.sandbox.link(scene.program(), &real);
    let sent = answer(&scene.sandbox, &["send", &id, "gamma question"]);
    assert_eq!(sent["text"], "FAKE turns=2 first='alpha question' last='gamma question'");
}
