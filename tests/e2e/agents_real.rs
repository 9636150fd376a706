//! Promise: what an agent asks for reaches every real CLI at every start of a session, over the
//! user's own settings and without a change to them: model, prompt, profile, and the MCP servers
//! that it names, however they are reached, and no others.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sessd_tests::model_server::Recorded;
use sessd_tests::npm::{self, MCP_EVERYTHING};
use sessd_tests::real_cli::{Claude, Codex, Gemini, KILO, OPENCODE, Qwen, RealCli};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::scene::{Scene, answer};
use crate::tools_http::start_server;

/// A tool server on standard input and output, in one line of the protocol each.
const SERVER: &str = r#"
const lines = require('readline').createInterface({ input: process.stdin });
lines.on('line', line => {
  const { id, method, params } = JSON.parse(line);
  const answer = result => console.log(JSON.stringify({ jsonrpc: '2.0', id, result }));
  const tool = { name: 'say', inputSchema: { type: 'object', properties: {} },
    description: `with ${process.env.TOKEN} in ${process.cwd()}` };
  if (method === 'initialize') answer({ protocolVersion: params.protocolVersion,
    capabilities: { tools: {} }, serverInfo: { name: 'test', version: '1' } });
  else if (method === 'tools/list') answer({ tools: [tool] });
  else if (method === 'tools/call') {
    require('fs').writeFileSync('called', '');
    answer({ content: [] });
  }
  else if (id !== undefined) answer({});
});
"#;

/// The token of the agent's server, and those of the servers in the settings.
const SECRET: &str = "hunter2";
const USERS: &str = "of-the-user";
const PROJECTS: &str = "of-the-project";

/// The text of the provider's own agent file, and the prompt of our configuration.
const PROFILE: &str = "Review like Cato.";
const PROMPT: &str = "Be as brief as Tacitus.";

#[test]
fn agents_reach_claude_at_every_start() {
    reach(&Claude);
}

#[test]
fn agents_reach_codex_at_every_start() {
    reach(&Codex);
}

#[test]
fn agents_reach_gemini_at_every_start() {
    reach(&Gemini);
}

#[test]
fn agents_reach_opencode_at_every_start() {
    reach(&OPENCODE);
}

#[test]
fn agents_reach_kilo_at_every_start() {
    reach(&KILO);
}

#[test]
fn agents_reach_qwen_at_every_start() {
    reach(&Qwen);
}

/// The files and names of one CLI.
struct Ways {
    /// The user's own settings.
    settings: &'static str,
    /// The settings of a project.
    project: &'static str,
    /// Another model than theirs.
    model: &'static str,
    /// A text of it that the model server sees.
    asked: &'static str,
    /// A tool of each server.
    tools: [&'static str; 2],
    /// A file of the provider's own form that makes an agent or profile, where it has such.
    profile: Option<(&'static str, String)>,
}

fn ways(provider: &str) -> Ways {
    let described = format!("---\nname: reviewer\ndescription: x\nmode: primary\n---\n{PROFILE}\n");
    let other = "other-model";
    let [settings, project, model, asked] = match provider {
        "claude" => [".claude.json", ".mcp.json", "haiku", "claude-haiku"],
        "codex" => [".codex/config.toml", ".codex/config.toml", other, other],
        "gemini" => {
            let settings = ".gemini/settings.json";
            [settings, settings, "gemini-2.5-pro", "gemini-2.5-pro"]
        }
        "qwen" => [".qwen/settings.json", ".qwen/settings.json", other, other],
        "kilo" => [".config/kilo/kilo.json", "kilo.json", "test/other-model", other],
        _ => [".config/opencode/opencode.json", "opencode.json", "test/other-model", other],
    };
    let tools = match provider {
        "claude" | "qwen" => ["mcp__archive__say", "mcp__bazaar__echo"],
        // The tools of each are in a list of its own.
        "codex" => ["mcp__archive", "mcp__bazaar"],
        "gemini" => ["mcp_archive_say", "mcp_bazaar_echo"],
        _ => ["archive_say", "bazaar_echo"],
    };
    let profile = match provider {
        "claude" => Some((".claude/agents/reviewer.md", described)),
        "codex" => {
            let text = "model_instructions_file = 'reviewer.md'\n".to_owned();
            Some((".codex/reviewer.config.toml", text))
        }
        "opencode" => Some((".config/opencode/agent/reviewer.md", described)),
        "kilo" => Some((".config/kilo/agent/reviewer.md", described)),
        _ => None,
    };
    Ways { settings, project, model, asked, tools, profile }
}

/// Adds a server to settings, in the form of the CLI.
fn add_server(scene: &Scene, settings: &Path, server: &Path, token: &str) {
    let text = fs::read_to_string(settings).unwrap_or_default();
    let (name, program, args) = (token.replace('-', ""), "node", server.to_str().unwrap());
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    if settings.extension().unwrap() == "toml" {
        let form =
            format!("command = '{program}'\nargs = ['{args}']\nenv = {{ TOKEN = '{token}' }}");
        return fs::write(settings, format!("{text}[mcp_servers.{name}]\n{form}\n")).unwrap();
    }
    let mut all: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
    let env = json!({ "TOKEN": token });
    if scene.has_database() {
        let command = [program, args];
        all["mcp"][name] = json!({ "type": "local", "command": command, "environment": env });
    } else {
        // Without a person to ask, Gemini CLI offers only what it trusts.
        let form = json!({ "command": program, "args": [args], "env": env, "trust": true });
        all["mcpServers"][name] = form;
    }
    fs::write(settings, all.to_string()).unwrap();
}

/// The agent `helper`, with everything that the provider takes.
fn have_agent(scene: &Scene, ways: &Ways, server: &Path, port: u16) {
    let provider = scene.provider();
    let mut agent = format!(
        "[agents.helper]\nprovider = '{provider}'\nmodel = '{}'\npermission = 'ask'\n\
         system_prompt = '{PROMPT}'\nmcp_servers = ['archive', 'bazaar']\n",
        ways.model
    );
    if let Some((file, text)) = &ways.profile {
        scene.sandbox.write(file, text);
        agent += "profile = 'reviewer'\n";
    }
    scene.sandbox.write(".codex/reviewer.md", PROFILE);
    let servers = format!(
        "[mcp_servers.archive]\ncommand = 'node'\nargs = ['{}']\n\
         env = {{ TOKEN = '{SECRET}' }}\ncwd = '{}'\n\
         [mcp_servers.bazaar]\nurl = 'http://127.0.0.1:{port}/mcp'\n",
        server.display(),
        scene.elsewhere.display(),
    );
    scene.sandbox.write(".config/sessd/config.toml", agent + &servers);
}

/// Returns the parts that a request lacks.
fn missing<'a>(scene: &Scene, ways: &'a Ways, request: &Recorded) -> Vec<&'a str> {
    let said = format!("{} {}", request.path, request.body);
    let described = format!("with {SECRET} in {}", scene.elsewhere.display());
    let wanted = ways.tools.into_iter().chain([ways.asked, PROMPT]);
    let mut missing: Vec<_> = wanted.filter(|part| !said.contains(part)).collect();
    missing.extend((!said.contains(&described)).then_some("the server's environment"));
    let lacks_profile = ways.profile.is_some() && !said.contains(PROFILE);
    missing.extend(lacks_profile.then_some("the profile"));
    missing.extend(said.contains(USERS).then_some("no server of the user's"));
    missing.extend(said.contains(PROJECTS).then_some("no server of the project's"));
    missing
}

/// Model, prompt, profile and servers are there in the first turn, in one after a restart of the
/// daemon, and at a terminal.
fn reach(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::row(cli, &["claude", "codex", "gemini"]) else { return };
    let Some(everything) = npm::install(&MCP_EVERYTHING) else { return };
    let (name, sandbox) = (scene.provider(), &scene.sandbox);
    let accepts = sessd::providers::by_id(name).unwrap().launcher().accepts();
    let ways = ways(name);
    assert_eq!(ways.profile.is_some(), accepts.profile, "{name}");
    let log = sandbox.home().join("server.log");
    let (mut far, port) = start_server(sandbox, &everything.program, &log);
    let server = sandbox.write("server.js", SERVER);
    let own = sandbox.home().join(ways.settings);
    add_server(&scene, &own, &server, USERS);
    add_server(&scene, &scene.project.join(ways.project), &server, PROJECTS);
    // Claude Code would ask whether that may be there, even where it shall not.
    let leave = "{\"enableAllProjectMcpServers\":true}";
    let leave_file = sandbox.write(".claude/settings.json", leave);
    have_agent(&scene, &ways, &server, port);
    // It completes its settings at its first start.
    scene.one_shot("of no interest [[load mcp__oftheuser__say,mcp__oftheproject__say]]");
    let newest = || scene.server.turn_requests().pop().unwrap();
    let plain = newest().body.to_string();
    scene.premise("the user's own server is there", plain.contains(USERS));
    scene.premise("the project's own server is there", plain.contains(PROJECTS));
    let before = settings(&own);

    let project = scene.project.to_str().unwrap();
    // Claude Code tells the model only the names of such tools until it asks for one.
    let prompt = format!("alpha question [[load {}]]", ways.tools[0]);
    let sent = answer(sandbox, &["send", "--new", "helper", "--cwd", project, &prompt]);
    let id = sent["session"]["id"].as_str().unwrap();
    assert_eq!(missing(&scene, &ways, &newest()), [""; 0], "{}", newest().body);
    answer(sandbox, &["daemon", "restart"]);
    // There is no person to ask.
    calls_nothing(&scene, &ways, id);
    assert_eq!(missing(&scene, &ways, &newest()), [""; 0], "{}", newest().body);
    assert_eq!(settings(&own), before, "{} was changed", own.display());
    assert_eq!(fs::read_to_string(leave_file).unwrap(), leave);
    // It is a session of the user's home like any other.
    assert_eq!(answer(sandbox, &["show", id])["home"], scene.home().to_str().unwrap());

    let turns = 2 + has_it_at_a_terminal(&scene, &ways, id);
    // There some write down by themselves what they have shown.
    let after = fs::read_to_string(&own).unwrap();
    assert!(!after.contains("archive") && !after.contains(SECRET), "{after}");
    if name == "gemini" {
        // It had a home of ours, but what it wrote there is in the user's.
        let theirs = answer(sandbox, &["show", id])["provider_session_id"].clone();
        let run = Gemini.one_shot_arguments(theirs.as_str(), "delta question");
        let run = scene.run(&run, None);
        assert!(run.stdout.contains(&format!("turns={}", turns + 1)), "{run:?}");
    }
    far.kill().unwrap();
    far.wait().unwrap();
}

/// A turn in which the model calls a tool in vain, as there is no person to ask; where the CLI
/// ends with that, the turn has failed and says why.
fn calls_nothing(scene: &Scene, ways: &Ways, id: &str) {
    let tool = if scene.provider() == "codex" { "mcp__archive::say" } else { ways.tools[0] };
    let prompt = format!("beta question [[call {tool}]]");
    let sent = scene.sandbox.sessctl(&["send", id, &prompt]);
    if scene.has_database() {
        assert!(sent.status == 6 && sent.stderr.contains("permission"), "{sent:?}");
    } else {
        assert_eq!(sent.status, 0, "{sent:?}");
        let said = scene.server.turn_requests().pop().unwrap().body.to_string();
        let result = ["tool_result", "functionResponse", "function_call_output", "tool_call_id"];
        assert!(result.iter().any(|it| said.contains(it)), "no tool was called at all: {said}");
    }
    assert!(!scene.elsewhere.join("called").exists(), "a tool was called without leave");
}

/// The user's settings; of those that a CLI keeps its own notes in, the servers.
fn settings(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    match path.ends_with(".claude.json") {
        true => serde_json::from_str::<Value>(&text).unwrap()["mcpServers"].to_string(),
        false => text,
    }
}

/// Returns the number of prompts that it took.
fn has_it_at_a_terminal(scene: &Scene, ways: &Ways, id: &str) -> usize {
    let turns = scene.server.turn_requests().len();
    let mut terminal = scene.resume(&[id], &scene.elsewhere);
    terminal.wait_for_text("beta question", DEADLINE);
    // Servers that still connect when the first prompt goes are in one of the next.
    let mut prompts = 0;
    wait_until("a prompt with all of it", DEADLINE, || {
        prompts += 1;
        let prompt = format!("gamma question {prompts}");
        scene.cli.prompt(&terminal, &prompt);
        terminal.wait_for_text(&format!("last='{prompt}'"), DEADLINE);
        let requests = &scene.server.turn_requests()[turns..];
        requests.iter().any(|it| missing(scene, ways, it).is_empty()).then_some(())
    });
    scene.cli.quit(&mut terminal);
    prompts
}
