//! Promise: what an agent asks for reaches the real CLI, over the user's own settings and without
//! a change to them.

use std::fs;

use sessd_tests::real_cli::{KILO, OPENCODE, Qwen, RealCli};

use crate::scene::Scene;

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
  else if (id !== undefined) answer({});
});
"#;

#[test]
fn agents_reach_opencode() {
    reach(&OPENCODE);
}

#[test]
fn agents_reach_kilo() {
    reach(&KILO);
}

#[test]
fn agents_reach_qwen() {
    reach(&Qwen);
}

/// What the model is told of it: instructions, tools, and the other model's name.
fn reach(cli: &'static dyn RealCli) {
    let Some(scene) = Scene::of(cli) else { return };
    let (name, home) = (scene.provider(), scene.sandbox.home());
    let server = scene.sandbox.write("server.js", SERVER);
    let (own, model, tool) = match name {
        "qwen" => (".qwen/settings.json".to_owned(), "other-model", "memory__say"),
        _ => (format!(".config/{name}/{name}.json"), "test/other-model", "memory_say"),
    };
    let own = home.join(own);
    // It completes its settings at its first start.
    scene.one_shot("of no interest");
    let before = fs::read(&own).unwrap();
    let settings = format!(
        "[agents.helper]\nprovider = '{name}'\nmodel = '{model}'\n\
         permission = 'ask'\nsystem_prompt = 'Be as brief as Tacitus.'\n\
         mcp_servers = ['memory']\n[mcp_servers.memory]\ncommand = 'node'\n\
         args = ['{}']\nenv = {{ TOKEN = 'hunter2' }}\ncwd = '{}'\n",
        server.display(),
        scene.elsewhere.display(),
    );
    scene.sandbox.write(".config/sessd/config.toml", settings);
    let project = scene.project.to_str().unwrap();
    let sent = scene.sandbox.sessctl(&["send", "--new", "helper", "--cwd", project, "alpha"]);
    assert_eq!(sent.status, 0, "{sent:?}");
    let asked = scene.server.turn_requests().pop().unwrap().body;
    assert_eq!(asked["model"], "other-model");
    let told = asked.to_string();
    let described = format!("with hunter2 in {}", scene.elsewhere.display());
    for wanted in ["Be as brief as Tacitus.", tool, &described] {
        assert!(told.contains(wanted), "{wanted} is not in {told}");
    }
    assert!(fs::read(&own).unwrap() == before, "{} was changed", own.display());
}
