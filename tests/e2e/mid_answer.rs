//! Promise: an answer that has started is completed without its sender, and its output is kept when
//! it is cancelled, which leaves no process behind. Called where a
//! session of each real CLI is at hand.

use std::fs;
use std::process::Stdio;

use sessd::providers::{self, PromptVia};
use sessd_proto::turn::TurnOutputRequest;
use sessd_tests::daemon::is_running;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::echo::said;
use crate::scene::{Scene, answer, show};

/// The answer of a turn whose sender was killed in the middle of it is printed to later callers.
pub(crate) fn outlives_its_sender(scene: &Scene, id: &str) {
    let (before, half_sent) = (scene.server.turn_requests().len(), scene.server.half_sent());
    let prompt = "iota question [[pause 600]]";
    let mut command = scene.sandbox.command(BINARIES.sessctl);
    command.args(["send", id, prompt]).stdin(Stdio::null());
    let mut sender = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let turn = in_the_middle(scene, half_sent, || newest_turn(scene));
    sender.kill().unwrap();
    sender.wait().unwrap();
    assert_eq!(answer(&scene.sandbox, &["turns", "show", &turn])["state"], "running");
    scene.server.go_on();
    let whole = format!("FAKE turns=6\nfirst='alpha question' last='{prompt}'\n");
    for when in ["in the middle", "after its end"] {
        let followed = scene.sandbox.sessctl(&["turns", "follow", &turn]);
        assert_eq!((followed.status, &*followed.stdout), (0, &*whole), "{when}: {followed:?}");
    }
    assert_eq!(scene.server.turn_requests().len(), before + 1, "the prompt was sent twice");
}

/// Cancels a turn in the middle of its answer: no process of it is left, and the model is not asked
/// again. Until then its prompt was an argument only where the CLI takes it in no other way.
pub(crate) fn is_cancelled(scene: &Scene, id: &str) {
    let (before, half_sent) = (scene.server.requests().len(), scene.server.half_sent());
    let words = ["send", "--detach", id, "kappa [[pause 600]]"];
    let turn = scene.sandbox.sessctl(&words).stdout.trim_end().to_owned();
    in_the_middle(scene, half_sent, || turn.clone());
    let live = show(&scene.sandbox, id).live;
    assert!(live.blocks(), "{live:?}");
    let running = processes_of(&turn);
    assert!(running.iter().any(|pid| u32::try_from(*pid).ok() == live.pid), "{running:?}");
    let told = running.iter().any(|pid| arguments(*pid).contains("kappa"));
    let prompt = providers::by_id(scene.provider()).unwrap().turns().unwrap().prompt();
    assert_eq!(told, prompt == PromptVia::Argument, "the prompt in the list of processes");
    let asked = scene.server.requests().len();
    assert!(asked > before);
    let cancelled = answer(&scene.sandbox, &["turns", "cancel", &turn]);
    assert_eq!(cancelled["state"], "cancelled");
    let left = || processes_of(&turn).is_empty() && !running.iter().any(|pid| is_running(*pid));
    wait_until("the end of all that ran", DEADLINE, || left().then_some(()));
    assert_eq!(scene.server.requests().len(), asked, "the model was asked once more");
    assert!(!show(&scene.sandbox, id).live.blocks());
    let kept = scene.sandbox.sessctl(&["turns", "follow", &turn]);
    let first = if shows_parts(scene) { "FAKE turns=" } else { "" };
    assert!(kept.status != 0 && kept.stdout.starts_with(first), "{kept:?}");
}

/// Waits until the model is in the middle of its answer to a turn, and the part that the CLI shows
/// is stored; returns the id of the turn.
fn in_the_middle(scene: &Scene, before: usize, turn: impl Fn() -> String) -> String {
    wait_until("half an answer", DEADLINE, || (scene.server.half_sent() > before).then_some(()));
    let turn_id = turn();
    let request = TurnOutputRequest { turn_id: turn_id.clone(), ..TurnOutputRequest::default() };
    let mut client = scene.sandbox.client();
    wait_until("what is known so far", DEADLINE, || {
        let output = client.turn_output(request.clone()).unwrap();
        assert!(output.session.is_none(), "it has ended: {output:?}");
        let has_started = output.events.iter().any(|event| event.kind.as_str() == "started");
        let text = said(&output);
        let told = text.starts_with("FAKE turns=") && !text.contains("first=");
        (has_started && (told || !shows_parts(scene))).then_some(())
    });
    turn_id
}

/// True if the CLI passes on an answer while it arrives.
fn shows_parts(scene: &Scene) -> bool {
    matches!(scene.provider(), "claude" | "codex" | "gemini")
}

fn newest_turn(scene: &Scene) -> String {
    answer(&scene.sandbox, &["turns"])["turns"][0]["id"].as_str().unwrap().to_owned()
}

fn arguments(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All that runs of a turn, wherever it has gone.
pub(crate) fn processes_of(turn: &str) -> Vec<i32> {
    let marker = format!("SESSD_TURN={turn}");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_marked = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        is_running(*pid) && environ.split(|byte| *byte == 0).any(|it| it == marker.as_bytes())
    };
    pids.filter(is_marked).collect()
}
