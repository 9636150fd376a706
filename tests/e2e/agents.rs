//! Promise: an agent is written once in the configuration; what it asks for is stored with its
//! sessions and asked for at every start; nothing secret of it is seen by others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sessd_proto::FaultCode;
use sessd_tests::sandbox::Sandbox;

use crate::BINARIES;
use crate::scene::{Calls, answer, fault, sessions, show};

const CONFIG: &str = ".config/sessd/config.toml";

/// A secret that no argument, table or answer may hold.
const SECRET: &str = "hunter2";

/// Every provider's agent that the tests make, and the server that they have.
fn config(model: &str, server: &str) -> String {
    let options = format!(
        "model = '{model}'\npermission = 'edit'\nsystem_prompt = 'Be brief.'\n\
         mcp_servers = ['memory']\nargs = ['--verbose']\n"
    );
    let agents = ["claude", "codex", "opencode"]
        .map(|provider| format!("[agents.my-{provider}]\nprovider = '{provider}'\n{options}"));
    format!(
        "{}[mcp_servers.memory]\ncommand = '{server}'\nargs = ['a b']\n\
         env = {{ TOKEN = '{SECRET}' }}\n",
        agents.concat()
    )
}

fn configured(text: &str) -> Sandbox {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.write(CONFIG, text);
    sandbox
}

/// The plan by which a session is started now, as `resume --plan` shows it.
fn plan(sandbox: &Sandbox, id: &str) -> Value {
    answer(sandbox, &["resume", "--plan", id])
}

fn words(plan: &Value) -> Vec<&str> {
    plan["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn agents_are_shown_with_what_they_ask_for() {
    let sandbox = configured(&config("opus", "server"));
    let agents = answer(&sandbox, &["agents"]);
    let named = |name: &str| {
        let agents = agents["agents"].as_array().unwrap();
        agents.iter().find(|agent| agent["name"] == name).unwrap().clone()
    };
    let mine = named("my-claude");
    assert_eq!((&mine["provider"], &mine["model"]), (&"claude".into(), &"opus".into()));
    assert_eq!((&mine["permission"], &mine["mcp_servers"][0]), (&"edit".into(), &"memory".into()));
    assert_eq!(mine["defined_in"], sandbox.home().join(CONFIG).to_str().unwrap());
    let plain = named("echo");
    assert_eq!((&plain["provider"], &plain["defined_in"]), (&"echo".into(), &Value::Null));
    let table = sandbox.sessctl(&["agents"]).stdout;
    assert!(table.contains("my-codex\tcodex\topus\tedit\tmemory\t"), "{table}");
}

#[test]
fn an_agent_has_a_directory_and_variables_and_is_a_filter() {
    let home = Sandbox::new(BINARIES);
    let [place, other] = ["place", "other"].map(|name| home.dir(name));
    let (place, other) = (place.to_str().unwrap(), other.to_str().unwrap());
    home.write(
        CONFIG,
        format!(
            "[agents.parrot]\nprovider = 'echo'\ndirectory = '{place}'\n\
             env = {{ SESSD_ECHO_HOME = '{other}' }}\n"
        ),
    );
    let send = |words: &[&str]| -> Value {
        answer(&home, &[&["send", "--new"], words].concat())["session"].take()
    };
    let first = send(&["parrot", "one"]);
    assert_eq!((&first["agent"], &first["launch_dir"]), (&"parrot".into(), &place.into()));
    assert_eq!(first["home"], other);
    let second = send(&["parrot", "--cwd", other, "two"]);
    assert_eq!(second["launch_dir"], other);
    send(&["echo", "three"]);
    assert_eq!(sessions(&home, &["list", "--agent", "parrot"]).len(), 2);
    let id = first["id"].as_str().unwrap();
    let again = home.sessctl(&["send", id, "four"]);
    assert_eq!(again.stdout, "turn 2, and you began with: one\n");

    let unknown = fault(&home, &["send", "--new", "parot", "x"], 3);
    assert_eq!(unknown.code, FaultCode::NotFound);
    assert!(unknown.hint.unwrap().starts_with("did you mean `parrot`?"));
}

#[test]
fn a_broken_agent_is_named_by_every_call() {
    let sandbox = configured("[agents.a]\nprovider = 'claude'\nmodle = 'x'\n");
    let broken = fault(&sandbox, &["list"], 1);
    assert_eq!(broken.code, FaultCode::ConfigInvalid);
    assert!(broken.message.contains("unknown option `agents.a.modle`"), "{broken:?}");
    assert_eq!(broken.hint.as_deref(), Some("did you mean `agents.a.model`?"));
}

#[test]
fn a_session_keeps_its_agents_options_and_looks_up_servers() {
    let sandbox = configured(&config("opus", "server"));
    let model = "--model=opus";
    for agent in ["my-claude", "my-codex", "my-opencode"] {
        sandbox.write(CONFIG, config("opus", "server"));
        answer(&sandbox, &["daemon", "restart"]);
        let id = answer(&sandbox, &["new", agent])["session"]["id"].as_str().unwrap().to_owned();
        let first = plan(&sandbox, &id);
        assert!(words(&first).contains(&model), "{first}");
        assert!(words(&first).contains(&"--verbose"), "{first}");

        // Another model is for sessions to come, what is behind a name counts at once.
        sandbox.write(CONFIG, config("haiku", "other-server"));
        answer(&sandbox, &["daemon", "restart"]);
        let then = plan(&sandbox, &id);
        assert!(words(&then).contains(&model), "{then}");
        let server = format!("{then}{}", files(&sandbox, &id).concat());
        assert!(server.contains("other-server"), "{server}");

        sandbox.write(CONFIG, "");
        answer(&sandbox, &["daemon", "restart"]);
        let gone = fault(&sandbox, &["resume", "--plan", &id], 1);
        assert_eq!(gone.code, FaultCode::ConfigInvalid);
        assert!(gone.message.contains("`memory`"), "{gone:?}");
    }
}

/// The files that were written for a session's starts.
fn files(sandbox: &Sandbox, id: &str) -> Vec<String> {
    written(sandbox, id).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn written(sandbox: &Sandbox, id: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(sandbox.state_dir().join("launch")).into_iter().flatten();
    let paths = folder.map(|entry| entry.unwrap().path());
    let is_its = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(id);
    paths.filter(is_its).collect()
}

#[test]
fn secrets_are_in_no_argument_registry_or_readable_file() {
    let sandbox = configured(&config("opus", "server"));
    let calls = Calls::of(&sandbox, &["claude", "codex", "opencode"]);
    for agent in ["my-claude", "my-codex", "my-opencode"] {
        let id = answer(&sandbox, &["new", agent])["session"]["id"].as_str().unwrap().to_owned();
        let resumed = sandbox.sessctl(&["resume", &id]);
        assert_eq!(resumed.status, 0, "{resumed:?}");
        let sent = sandbox.sessctl(&["send", "--new", agent, "hello"]);
        assert_eq!(sent.status, 6, "the recorder says nothing: {sent:?}");
        for path in written(&sandbox, &id) {
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
        assert_eq!(show(&sandbox, &id).agent, agent);
    }
    let seen = calls.seen();
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.iter().all(|call| call.contains("opus")), "{seen:?}");
    let said = format!("{seen:?}{}{}", answer(&sandbox, &["list"]), answer(&sandbox, &["agents"]));
    assert!(!said.contains(SECRET), "{said}");
    for name in ["sessd.db", "sessd.db-wal", "sessd.log"] {
        let bytes = fs::read(sandbox.state_dir().join(name)).unwrap_or_default();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "{name} has a secret");
    }
}

#[test]
fn launch_files_without_a_session_go_with_the_next_daemon() {
    let sandbox = configured(&config("opus", "server"));
    let _calls = Calls::of(&sandbox, &["claude"]);
    let new = answer(&sandbox, &["new", "my-claude"]);
    let id = new["session"]["id"].as_str().unwrap();
    assert_eq!(sandbox.sessctl(&["resume", id]).status, 0);
    let name = "launch/00000000-0000-4000-8000-000000000000.mcp.json";
    let stray = sandbox.state_dir().join(name);
    fs::write(&stray, SECRET).unwrap();
    sandbox.kill_daemon();
    answer(&sandbox, &["list"]);
    assert!(!stray.exists(), "what a killed daemon has left is left again");
    assert!(!written(&sandbox, id).is_empty(), "a session has lost what its start needs");
}
