//! Promise: turns of different sessions run at the same time, but for those of a CLI whose runs
//! harm each other.

use sessd_proto::turn::{Turn, TurnState};
use sessd_tests::real_cli::{Claude, Gemini};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::echo::ended;
use crate::scene::Scene;

/// One that goes on empties its chat for a moment, and one that starts deletes what is empty.
#[test]
fn two_sessions_of_gemini_run_one_after_the_other() {
    let Some(scene) = Scene::of(&Gemini) else { return };
    let turns = two_turns(&scene);
    for count in [1, 2] {
        wait_for_halves(&scene, count);
        scene.server.go_on();
    }
    let mut turns = turns.map(|id| succeeded(&scene, &id));
    turns.sort_by_key(|turn| turn.started_at);
    assert!(turns[0].finished_at <= turns[1].started_at, "both at once: {turns:#?}");
}

#[test]
fn two_sessions_of_claude_run_at_once() {
    let Some(scene) = Scene::of(&Claude) else { return };
    let turns = two_turns(&scene);
    wait_for_halves(&scene, 2);
    scene.server.go_on();
    turns.iter().for_each(|id| drop(succeeded(&scene, id)));
}

/// Two turns that begin a session each and stop in the middle of their answers.
fn two_turns(scene: &Scene) -> [String; 2] {
    let project = scene.project.to_str().unwrap();
    let new = ["send", "--detach", "--new", scene.provider(), "--cwd", project];
    ["alpha [[pause 600]]", "beta [[pause 600]]"].map(|prompt| {
        let sent = scene.sandbox.sessctl(&[&new[..], &[prompt]].concat());
        assert_eq!(sent.status, 0, "{sent:?}");
        sent.stdout.trim_end().to_owned()
    })
}

fn wait_for_halves(scene: &Scene, count: usize) {
    wait_until("half an answer", DEADLINE, || (scene.server.half_sent() >= count).then_some(()));
}

fn succeeded(scene: &Scene, id: &str) -> Turn {
    let turn = ended(&mut scene.sandbox.client(), id).turn;
    assert_eq!(turn.state, TurnState::Succeeded, "{turn:?}");
    turn
}
