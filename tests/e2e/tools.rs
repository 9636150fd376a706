//! Promise: `sessctl tools` shows what an agent or a session has when it is started, from the
//! provider where that tells it, else from the servers; and those tools can be called.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sessd_proto::turn::TurnOutputRequest;
use sessd_proto::{Event, FaultCode};
use sessd_tests::npm::{self, MCP_MEMORY};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::tools;
use sessd_tests::tree::files_below;
use sessd_tests::wait::DEADLINE;

use crate::scene::{Scene, answer, fault};

const SECRET: &str = "hunter2";

/// A CLI with an agent `helper` that has the server `memory`, and `broken` with one that is not
/// there.
fn scene_of(cli: &'static dyn RealCli, options: &str) -> Option<Scene> {
    let scene = Scene::of(cli)?;
    let server = npm::install(&MCP_MEMORY)?.program;
    let provider = scene.provider();
    let memory = scene.sandbox.home().join("memory.json");
    scene.sandbox.write(
        ".config/sessd/config.toml",
        format!(
            "[agents.helper]\nprovider = '{provider}'\nmcp_servers = ['memory']\n{options}\n\
             [agents.broken]\nprovider = '{provider}'\nmcp_servers = ['memory', 'nope']\n\
             [mcp_servers.memory]\ncommand = '{}'\n\
             env = {{ MEMORY_FILE_PATH = '{}', TOKEN = '{SECRET}' }}\n\
             [mcp_servers.nope]\ncommand = '/no/such/server'\n",
            server.display(),
            memory.display(),
        ),
    );
    Some(scene)
}

/// A prompt to a new session of the agent; the session's id and the turn's.
fn send(scene: &Scene, prompt: &str) -> (String, String) {
    let project = scene.project.to_str().unwrap();
    let sent = answer(&scene.sandbox, &["send", "--new", "helper", "--cwd", project, prompt]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&sent["session"]["id"]), text(&sent["turn"]["id"]))
}

fn events(scene: &Scene, turn_id: String) -> Vec<Event> {
    let mut client = scene.sandbox.client();
    client.turn_output(TurnOutputRequest { turn_id, ..Default::default() }).unwrap().events
}

/// The servers that `sessctl tools` shows: state and number of tools.
fn servers(told: &Value) -> BTreeMap<&str, (&str, usize)> {
    let servers = told["servers"].as_array().unwrap().iter();
    servers
        .map(|it| {
            let tools = it["tools"].as_array().unwrap().len();
            (it["name"].as_str().unwrap(), (it["state"].as_str().unwrap(), tools))
        })
        .collect()
}

#[test]
fn tools_of_claude_are_those_of_its_real_start() {
    let Some(scene) = scene_of(&Claude, "args = ['--allowedTools=mcp__memory']") else { return };
    let told = answer(&scene.sandbox, &["tools", "broken"]);
    assert_eq!((&told["told_by"], &told["provider"]), (&"provider".into(), &"claude".into()));
    let wanted = [("memory", ("connected", 9)), ("nope", ("failed", 0))];
    assert_eq!(servers(&told), wanted.into());
    let first = told["servers"][0]["tools"][0].as_str().unwrap();
    assert!(first.starts_with("mcp__memory__"), "{told}");
    assert!(told["tools"].as_array().unwrap().contains(&"Bash".into()), "{told}");
    let table = scene.sandbox.sessctl(&["tools", "helper"]).stdout;
    assert!(table.contains("memory\tconnected\tmcp__memory__read_graph\n"), "{table}");
    assert!(!table.contains("nope"), "{table}");
    assert_eq!(scene.server.turn_requests().len(), 0, "tools asked the model");
    let files = files_below(&scene.home().join("projects"));
    assert_eq!(files, [""; 0].map(PathBuf::from), "tools left a session");
    let files = files_below(&scene.sandbox.state_dir().join("launch"));
    assert_eq!(files, [""; 0].map(PathBuf::from), "tools left secrets");
}

#[test]
fn tools_of_qwen_are_those_of_its_real_start() {
    let Some(scene) = scene_of(&Qwen, "") else { return };
    let told = answer(&scene.sandbox, &["tools", "broken"]);
    assert_eq!(told["told_by"], "provider");
    let wanted = [("memory", ("connected", 9)), ("nope", ("disconnected", 0))];
    assert_eq!(servers(&told), wanted.into());
    assert_eq!(scene.server.requests().len(), 0, "tools asked the model");
    let sessions = files_below(&scene.home().join("projects"));
    let is_session = |path: &PathBuf| path.extension().is_some_and(|it| it == "jsonl");
    assert!(!sessions.iter().any(is_session), "tools left a session: {sessions:?}");
}

#[test]
fn tools_are_called_in_a_turn_of_claude() {
    let Some(scene) = scene_of(&Claude, "model = 'haiku'\nargs = ['--allowedTools=mcp__memory']")
    else {
        return;
    };
    let (id, turn) = send(&scene, "alpha [[call mcp__memory__read_graph]]");
    let events = events(&scene, turn);
    let of = |kind: &str| events.iter().find(|event| event.kind.as_str() == kind).unwrap();
    // It may ask for the tool first, which is a call too.
    let is_call = |event: &&Event| event.data.0["name"] == "mcp__memory__read_graph";
    let call = events.iter().find(is_call).unwrap();
    assert_eq!(call.kind.as_str(), "tool_call");
    let is_result = |event: &&Event| {
        event.kind.as_str() == "tool_result" && event.data.0["id"] == call.data.0["id"]
    };
    let result = events.iter().find(is_result).unwrap();
    assert_ne!(result.data.0["is_error"], true, "{events:?}");
    assert_eq!(of("result").text.as_deref().map(|text| text.contains("turns=1")), Some(true));

    let told = answer(&scene.sandbox, &["tools", &id]);
    assert_eq!(servers(&told), [("memory", ("connected", 9))].into());
}

#[test]
fn tools_of_codex_are_those_of_its_servers() {
    tells_of_its_servers(&Codex);
}

#[test]
fn tools_of_gemini_are_those_of_its_servers() {
    tells_of_its_servers(&Gemini);
}

#[test]
fn tools_of_opencode_are_those_of_its_servers() {
    tells_of_its_servers(&OPENCODE);
}

#[test]
fn tools_of_kilo_are_those_of_its_servers() {
    tells_of_its_servers(&KILO);
}

/// It tells nothing by itself: it is not even started, and nothing of its home is touched.
fn tells_of_its_servers(cli: &'static dyn RealCli) {
    let Some(scene) = scene_of(cli, "") else { return };
    let calls = scene.replace_cli();
    let own = files_below(&scene.home());
    let told = answer(&scene.sandbox, &["tools", "broken"]);
    assert_eq!(told["told_by"], "servers");
    let wanted = [("memory", ("connected", 9)), ("nope", ("failed", 0))];
    assert_eq!(servers(&told), wanted.into());
    assert_eq!(told["tools"], json!([]), "it cannot know what is built in");
    assert_eq!(calls.seen(), [""; 0]);
    assert_eq!(files_below(&scene.home()), own, "tools wrote into the home");
}

#[test]
fn tools_of_an_unknown_agent_is_a_fault() {
    let Some(scene) = scene_of(&Claude, "") else { return };
    let unknown = fault(&scene.sandbox, &["tools", "nobody"], 3);
    assert_eq!(unknown.code, FaultCode::NotFound);
}

/// It ends at once, without a word about the conversation.
#[test]
fn trap_14_root_skips_permissions_of_claude_only_in_a_sandbox() {
    let Some(scene) = scene_of(&Claude, "permission = 'all'") else { return };
    if !tools::require_root("the trap") {
        return;
    }
    let skip = ["-p", "--dangerously-skip-permissions", "hello"].map(str::to_owned);
    let refused = scene.run(&skip, None);
    scene.premise("claude skips no permissions of root", refused.status == 1);

    let project = scene.project.to_str().unwrap();
    let words = ["send", "--new", "helper", "--cwd", project, "alpha"];
    let why = fault(&scene.sandbox, &words, 1);
    assert_eq!(why.code, FaultCode::Unsupported);
    assert!(why.message.contains("IS_SANDBOX"), "{why:?}");
    assert_eq!(scene.server.turn_requests().len(), 0);
    let mut command = scene.sandbox.command(crate::BINARIES.sessctl);
    command.args(words).env("IS_SANDBOX", "1");
    let sent = scene.sandbox.run(&mut command, DEADLINE);
    assert_eq!(sent.status, 0, "{sent:?}");
}
