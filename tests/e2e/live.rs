//! Promise: one writer per session. A process that was not started by us is seen on a session
//! where its provider shows it, and is not seen any more once it is gone.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sessd::providers::{self, Version};
use sessd_proto::{Live, LiveState};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::terminal::Terminal;
use sessd_tests::wait::DEADLINE;

use crate::scene::{
    Scene, answer, fault, is_in, sessions, show, wait_for_live, wait_until_settled,
};

const ALPHA: &str = "FAKE turns=1 first='alpha question' last='alpha question'";

#[test]
fn live_claude_in_another_terminal_is_seen() {
    seen_in_another_terminal(&Claude);
}

#[test]
fn live_codex_in_another_terminal_is_seen() {
    seen_in_another_terminal(&Codex);
}

/// Open with its process while it runs, free after it was left, and after it was killed,
/// which leaves its file behind.
fn seen_in_another_terminal(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::of(cli) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    assert!(!show(&scene.sandbox, &id).live.blocks());

    let mut terminal = cli.tui_resume(&scene.sandbox, &scene.project, &asked);
    terminal.wait_for_text(ALPHA, DEADLINE);
    assert_taken(&scene, &id, terminal.pid());
    fault(&scene.sandbox, &["send", "--steal", &id, "never"], 4);
    assert!(!terminal.has_exited(), "it was ended, though it is not ours");
    let waiting = answer(&scene.sandbox, &["send", "--detach", "--wait", &id, "beta question"]);
    let waiting = waiting["turn"]["id"].as_str().unwrap();
    assert_eq!(answer(&scene.sandbox, &["turns", "show", waiting])["state"], "queued");
    cli.quit(&mut terminal);
    let said = scene.sandbox.sessctl(&["turns", "follow", waiting]).stdout;
    assert_eq!(said, "FAKE turns=2 first='alpha question' last='beta question'\n");
    wait_for_live(&scene.sandbox, &id, "a free session after a quit", is_free);

    let terminal = cli.tui_resume(&scene.sandbox, &scene.project, &asked);
    terminal.wait_for_text(ALPHA, DEADLINE);
    assert_taken(&scene, &id, terminal.pid());
    drop(terminal);
    wait_for_live(&scene.sandbox, &id, "a free session after a kill", is_free);
    let folder = if scene.provider() == "codex" { "thread-writer-locks" } else { "sessions" };
    let left = fs::read_dir(scene.home().join(folder)).unwrap().count();
    assert!(left > 0, "the file was to be left behind");
    assert!(sessions(&scene.sandbox, &["list", "--busy"]).is_empty());
}

fn is_free(live: &Live) -> bool {
    live.state == LiveState::None
}

/// Open, in a process below this one, listed as busy, and refused to others.
fn assert_taken(scene: &Scene, id: &str, ancestor: u32) {
    let is_open = |live: &Live| live.state == LiveState::Open;
    let live = wait_for_live(&scene.sandbox, id, "a session that is open", is_open);
    assert!(live.pid.is_some_and(|pid| is_in(pid, ancestor)), "{live:?}");
    let busy = sessions(&scene.sandbox, &["list", "--busy"]);
    assert_eq!(busy.iter().map(|session| &*session.id).collect::<Vec<_>>(), [id]);
    for words in [&["resume", id][..], &["send", id, "never"]] {
        let message = fault(&scene.sandbox, words, 4).message;
        assert!(message.contains(&format!("process {}", live.pid.unwrap())), "{message}");
    }
}

/// The file outlives a kill, and the kernel gives the pid to another process.
#[test]
fn live_claude_is_not_a_process_that_reuses_its_pid() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let mut unrelated = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = unrelated.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let start: u64 = fields.split(' ').nth(19).unwrap().parse().unwrap();
    for (start, state) in [(start - 1, LiveState::None), (start, LiveState::Open)] {
        let running = serde_json::json!({
            "pid": pid, "sessionId": asked, "cwd": scene.project, "startedAt": 1,
            "procStart": start.to_string(), "version": "2.1.197", "kind": "interactive",
            "entrypoint": "cli", "status": "idle", "updatedAt": 1,
        });
        scene.sandbox.write(&format!(".claude/sessions/{pid}.json"), running.to_string());
        let live = show(&scene.sandbox, &id).live;
        assert_eq!(live.state, state);
        assert_eq!(live.pid, (state == LiveState::Open).then_some(pid));
    }
    unrelated.kill().unwrap();
    unrelated.wait().unwrap();
    assert_eq!(show(&scene.sandbox, &id).live.state, LiveState::None);
}

#[test]
fn live_codex_at_work_is_seen() {
    let Some(scene) = Scene::of(&Codex) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let mut child = at_work(&scene, &asked);
    assert_taken(&scene, &id, child.id());
    kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_for_live(&scene.sandbox, &id, "a free session after a kill", is_free);
    let lock = scene.home().join(format!("thread-writer-locks/{asked}.lock"));
    assert!(lock.exists(), "the lock file was to be left behind");
    Codex.one_shot_resume(&scene.sandbox, &scene.project, &asked, "gamma question");
}

#[test]
fn live_claude_at_work_is_seen() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let mut child = at_work(&scene, &asked);
    let is_busy = |live: &Live| live.state == LiveState::Busy && live.pid == Some(child.id());
    wait_for_live(&scene.sandbox, &id, "a session at work", is_busy);
    fault(&scene.sandbox, &["resume", &id], 4);
    fault(&scene.sandbox, &["send", &id, "never"], 4);
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_for_live(&scene.sandbox, &id, "a free session after a kill", is_free);
}

/// A one-shot run, in a process group of its own, whose model does not answer.
fn at_work(scene: &Scene, asked: &str) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = scene.sandbox.command(scene.provider());
    command.args(scene.cli.one_shot_arguments(Some(asked), "beta [[sleep 600]]"));
    command.current_dir(&scene.project).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn live_gemini_is_unknown_but_for_our_lease() {
    unknown_but_for_our_lease(&Gemini);
}

#[test]
fn live_qwen_in_another_terminal_is_seen_by_its_version() {
    let version = Version::parse(Qwen.cli().version);
    match providers::by_id("qwen").unwrap().live_of(version) {
        Some(_) => seen_in_another_terminal(&Qwen),
        None => unknown_but_for_our_lease(&Qwen),
    }
}

#[test]
fn live_opencode_is_unknown_but_for_our_lease() {
    unknown_but_for_our_lease(&OPENCODE);
}

#[test]
fn live_kilo_is_unknown_but_for_our_lease() {
    unknown_but_for_our_lease(&KILO);
}

/// They leave no sign of running, and we say so; our own lease is all there is.
fn unknown_but_for_our_lease(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, &["gemini"]) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let foreign = cli.tui_resume(&scene.sandbox, &scene.project, &asked);
    foreign.wait_for_text(ALPHA, DEADLINE);
    assert_eq!(show(&scene.sandbox, &id).live, Live::default());
    assert!(sessions(&scene.sandbox, &["list", "--busy"]).is_empty());
    wait_until_settled(&scene.sandbox, &id);
    drop(foreign);

    let ours: Terminal = scene.resume(&[&id], &scene.elsewhere);
    ours.wait_for_text(ALPHA, DEADLINE);
    assert_taken(&scene, &id, ours.pid());
    drop(ours);
    let is_unknown = |live: &Live| live.state == LiveState::Unknown;
    wait_for_live(&scene.sandbox, &id, "no lease after a kill", is_unknown);
}

/// It has no lock of its own: a second writer forks the conversation silently.
#[test]
fn trap_03_claude_gets_no_second_writer_from_us() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let asked = scene.one_shot("alpha question").session_id;
    let id = scene.session(&asked).id;
    let terminal = scene.resume(&[&id], &scene.elsewhere);
    terminal.wait_for_text(ALPHA, DEADLINE);
    let second = scene.run(&Claude.one_shot_arguments(Some(&asked), "beta question"), None);
    scene.premise("claude lets a second writer in", second.stdout.contains("turns=2"));

    let calls = scene.replace_cli();
    fault(&scene.sandbox, &["resume", &id], 4);
    fault(&scene.sandbox, &["resume", "--force", &id], 4);
    fault(&scene.sandbox, &["resume", &asked], 4);
    assert_eq!(calls.seen(), [""; 0]);
}
