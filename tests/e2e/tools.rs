//! Promise: an MCP server that is written down once reaches every real CLI, at every start of a
//! session and without a change to the user's own files; `sessctl tools` shows what it gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sessd_proto::turn::TurnOutputRequest;
use sessd_proto::{Event, FaultCode};
use sessd_tests::model_server::Recorded;
use sessd_tests::npm::{self, MCP_MEMORY};
use sessd_tests::real_cli::{Claude, Codex, Gemini, Qwen, RealCli};
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, wait_until};

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

/// The model and the offered tools of the newest request that ran it.
fn newest_request(scene: &Scene) -> String {
    let request = scene.server.turn_requests().pop().unwrap();
    format!("{} {} {}", request.path, request.body["model"], request.body["tools"])
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
fn tools_are_called_in_a_turn_and_are_there_on_every_later_start_claude() {
    let Some(scene) = scene_of(&Claude, "model = 'haiku'\nargs = ['--allowedTools=mcp__memory']")
    else {
        return;
    };
    let (id, turn) = send(&scene, "alpha [[call mcp__memory__read_graph]]");
    let events = events(&scene, turn);
    let of = |kind: &str| events.iter().find(|event| event.kind == kind).unwrap();
    assert_eq!(of("tool_call").data.0["name"], "mcp__memory__read_graph");
    let result = of("tool_result");
    assert_ne!(result.data.0["is_error"], true, "{events:?}");
    assert_eq!(of("result").text.as_deref().map(|text| text.contains("turns=1")), Some(true));

    let told = answer(&scene.sandbox, &["tools", &id]);
    assert_eq!(servers(&told), [("memory", ("connected", 9))].into());
    remembered_at_every_start(&scene, &id, &["haiku", "mcp__memory__read_graph"]);
}

#[test]
fn tools_are_there_on_every_start_codex() {
    let Some(scene) = scene_of(&Codex, "model = 'other-model'") else { return };
    let own = scene.home().join("config.toml");
    let before = fs::read(&own).unwrap();
    let told = answer(&scene.sandbox, &["tools", "broken"]);
    assert_eq!(told["told_by"], "servers");
    let wanted = [("memory", ("connected", 9)), ("nope", ("failed", 0))];
    assert_eq!(servers(&told), wanted.into());
    assert_eq!(scene.server.turn_requests().len(), 0, "tools asked the model");

    let (id, _) = send(&scene, "alpha question");
    let wanted = ["other-model", "mcp__memory", "read_graph"];
    assert_request(&scene, &wanted);
    assert!(fs::read(&own).unwrap() == before, "{} was changed", own.display());
    remembered_at_every_start(&scene, &id, &wanted);
    // At a terminal it writes down by itself what it has shown.
    let after = fs::read_to_string(&own).unwrap();
    assert!(!after.contains("memory") && !after.contains(SECRET), "{after}");
}

#[test]
fn tools_are_there_on_every_start_gemini() {
    let options = "model = 'gemini-2.5-pro'\nsystem_prompt = 'Be as brief as Tacitus.'";
    let Some(scene) = scene_of(&Gemini, options) else { return };
    let own = tree(&scene.home());
    let told = answer(&scene.sandbox, &["tools", "helper"]);
    assert_eq!(servers(&told), [("memory", ("connected", 9))].into());
    assert_eq!(tree(&scene.home()), own, "tools wrote into the home");

    let (id, _) = send(&scene, "alpha question");
    let wanted = ["gemini-2.5-pro", "mcp_memory_read_graph"];
    assert_request(&scene, &wanted);
    let asked = scene.server.turn_requests().pop().unwrap().body.to_string();
    assert!(asked.contains("Be as brief as Tacitus."), "{asked}");
    let turns = remembered_at_every_start(&scene, &id, &wanted);
    let settings = ["settings.json", "trustedFolders.json"];
    let of = |tree: &BTreeMap<String, String>| settings.map(|name| tree[name].clone());
    assert_eq!(of(&tree(&scene.home())), of(&own), "the user's own files were changed");
    // It is a session of the user's home like any other.
    assert_eq!(answer(&scene.sandbox, &["show", &id])["home"], scene.home().to_str().unwrap());
    let plain = answer(&scene.sandbox, &["show", &id])["provider_session_id"].clone();
    let run = Gemini.one_shot_arguments(plain.as_str(), "delta question");
    let run = scene.run(&run, None);
    assert!(run.stdout.contains(&format!("turns={}", turns + 1)), "{run:?}");
}

/// Every file below a folder with its text.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let read = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    files_below(folder).iter().map(|path| (name(path), read(path))).collect()
}

/// A turn after a restart of the daemon and one at a terminal have it all again; how many turns
/// the session has then.
fn remembered_at_every_start(scene: &Scene, id: &str, wanted: &[&str]) -> usize {
    answer(&scene.sandbox, &["daemon", "restart"]);
    answer(&scene.sandbox, &["send", id, "beta question"]);
    assert_request(scene, wanted);
    let turns = scene.server.turn_requests().len();
    let mut terminal = scene.resume(&[id], &scene.elsewhere);
    terminal.wait_for_text("beta question", DEADLINE);
    let is_whole = |request: &Recorded| {
        let request = format!("{} {}", request.path, request.body);
        wanted.iter().all(|part| request.contains(part))
    };
    // Servers that still connect when the first prompt goes are in one of the next.
    let mut prompts = 0;
    wait_until(&format!("a prompt with {wanted:?}"), DEADLINE, || {
        prompts += 1;
        let prompt = format!("gamma question {prompts}");
        scene.cli.prompt(&terminal, &prompt);
        terminal.wait_for_text(&format!("last='{prompt}'"), DEADLINE);
        scene.server.turn_requests()[turns..].iter().any(is_whole).then_some(())
    });
    scene.cli.quit(&mut terminal);
    2 + prompts
}

fn assert_request(scene: &Scene, wanted: &[&str]) {
    let seen = newest_request(scene);
    for part in wanted {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
}

#[test]
fn tools_of_nobody_is_a_fault() {
    let Some(scene) = scene_of(&Claude, "") else { return };
    let unknown = fault(&scene.sandbox, &["tools", "nobody"], 3);
    assert_eq!(unknown.code, FaultCode::NotFound);
}

/// It ends at once, without a word about the conversation.
#[test]
fn trap_14_root_skips_permissions_of_claude_only_in_a_sandbox() {
    let Some(scene) = scene_of(&Claude, "permission = 'all'") else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let skip = ["-p", "--dangerously-skip-permissions", "hello"].map(str::to_owned);
    let refused = scene.run(&skip, None);
    assert_eq!(refused.status, 1, "the trap itself: {refused:?}");

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
