//! Promise: what a CLI does in a turn is told in the same words whichever it is: what it starts as,
//! the tool it calls, what that answers, what it says, what it used, and the result.

use serde_json::{Value, json};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::scene::Scene;

#[test]
fn events_of_claude_have_its_tools() {
    has_its_tools(&Claude, "Read", |path| json!({ "file_path": path }));
}

#[test]
fn events_of_codex_have_its_tools() {
    has_its_tools(&Codex, "exec_command", |path| json!({ "cmd": format!("cat {path}") }));
}

#[test]
fn events_of_gemini_have_its_tools() {
    has_its_tools(&Gemini, "read_file", |path| json!({ "file_path": path }));
}

#[test]
fn events_of_qwen_have_its_tools() {
    has_its_tools(&Qwen, "read_file", |path| json!({ "file_path": path }));
}

#[test]
fn events_of_opencode_have_its_tools() {
    has_its_tools(&OPENCODE, "read", |path| json!({ "filePath": path }));
}

#[test]
fn events_of_kilo_have_its_tools() {
    has_its_tools(&KILO, "read", |path| json!({ "filePath": path }));
}

/// It reads a file, which it may without asking. Each has a stream of its own, but for Kilo.
fn has_its_tools(cli: &'static dyn RealCli, tool: &str, input: fn(&str) -> Value) {
    let Some(scene) = Scene::row(cli, &["claude", "codex", "gemini", "qwen", "opencode"]) else {
        return;
    };
    let notes = scene.sandbox.write("project/notes.txt", "remember the milk\n");
    let input = input(notes.to_str().unwrap());
    let mut command = scene.sandbox.command(BINARIES.sessctl);
    command.args(["send", "--stream-json", "--new", scene.provider()]);
    command.arg(format!("alpha [[call {tool} {input}]]")).current_dir(&scene.project);
    let sent = scene.sandbox.run(&mut command, DEADLINE);
    assert_eq!(sent.status, 0, "{sent:?}");
    let events: Vec<Value> =
        sent.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |kind: &str| {
        let found = events.iter().position(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {}", sent.stdout))
    };
    let kinds = ["started", "tool_call", "tool_result", "text"];
    assert!(kinds.map(place).is_sorted(), "{}", sent.stdout);
    assert!(place("usage") > place("started") && place("result") > place("text"));
    let [call, result] = ["tool_call", "tool_result"].map(|kind| &events[place(kind)]);
    assert_eq!(call["data"]["id"], result["data"]["id"]);
    assert!(call["data"]["id"].is_string(), "{call}");
    assert!(call.to_string().contains("notes.txt"), "{call}");
    // Gemini CLI tells only what it would show of a tool's answer, and of a file that is nothing.
    let answer = if scene.provider() == "gemini" { "" } else { "remember the milk" };
    assert!(result["text"].as_str().is_some_and(|it| it.contains(answer)), "{result}");
    let text = events[place("text")]["text"].as_str().unwrap();
    assert!(text.starts_with("FAKE turns=1"), "{text}");
}
