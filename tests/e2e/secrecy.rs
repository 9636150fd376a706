//! Promise: what the caller's shell holds reaches the provider, for this call, and nothing else.

use std::fs;
use std::path::Path;

use sessd_tests::sandbox::Sandbox;
use sessd_tests::tree::files_below;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;

const SECRET: &str = "sk-marker-8c1f0a77";

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[track_caller]
fn assert_not_in(path: &Path) {
    let bytes = fs::read(path).unwrap_or_default();
    assert!(!contains(&bytes, SECRET), "the secret is in {}", path.display());
}

/// Says what it should not, on both ways, and fails.
const TALKATIVE: &str = r#"#!/bin/sh
read -r prompt
echo "{\"type\":\"started\",\"data\":{\"provider_session_id\":\"$5\"}}"
echo "{\"type\":\"text\",\"text\":\"it is $ANTHROPIC_API_KEY\"}"
echo "refused: $ANTHROPIC_API_KEY" >&2
exit 1
"#;

/// The built-in agent, which writes down each time that it gets the secret, and how it may reach
/// others.
fn have_a_witness(sandbox: &Sandbox) {
    let got = format!("[ \"$ANTHROPIC_API_KEY\" = {SECRET} ] && echo got >>~/got");
    let ways = "echo $HTTPS_PROXY but $NO_PROXY, $https_proxy but $no_proxy >>~/ways";
    replace_agent(sandbox, &format!("#!/bin/sh\n{got}\n{ways}\nexec \"$SESSD_BIN\" \"$@\"\n"));
}

fn replace_agent(sandbox: &Sandbox, script: &str) {
    let program = sandbox.script(sandbox.runtime_dir().join("agent"), script);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
}

#[test]
fn the_environment_of_the_first_shell_is_not_passed_on() {
    let sandbox = Sandbox::new(BINARIES);
    have_a_witness(&sandbox);
    let theirs = sandbox.dir("theirs");
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(["send", "--new", "echo", "one"]).env("CLAUDE_CONFIG_DIR", &theirs);
    let first = sandbox.run(command.env("ANTHROPIC_API_KEY", SECRET), DEADLINE);
    assert_eq!(first.status, 0, "{first:?}");
    let got = || fs::read_to_string(sandbox.home().join("got")).unwrap();
    assert_eq!(got(), "got\n");

    assert_eq!(sandbox.sessctl(&["send", "--new", "echo", "two"]).status, 0);
    assert_eq!(got(), "got\n", "the key of the first caller was used for another");
    let new = sandbox.json(&["new", "claude"]);
    let plan = sandbox.json(&["resume", "--plan", new["session"]["id"].as_str().unwrap()]);
    let home = &plan["env"].as_object().unwrap()["CLAUDE_CONFIG_DIR"];
    assert!(home.is_null(), "it is started in the home of the first caller: {home}");
    let listed = sandbox.json(&["providers"]).to_string();
    assert!(listed.contains(theirs.to_str().unwrap()), "{listed}");
}

#[test]
fn variables_of_a_call_reach_the_provider_and_nothing_else() {
    let sandbox = Sandbox::new(BINARIES);
    have_a_witness(&sandbox);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(["--json", "send", "@me", "--agent", "echo", "one"]);
    let sent = sandbox.run(command.env("ANTHROPIC_API_KEY", SECRET), DEADLINE);
    assert_eq!(sent.status, 0, "{sent:?}");
    assert!(sandbox.home().join("got").exists(), "the provider did not get it");

    let mut said = vec![sent];
    for words in
        [&["list"][..], &["show", "@me"], &["turns"], &["status"], &["doctor"], &["providers"]]
    {
        said.push(sandbox.sessctl(words));
        said.push(sandbox.sessctl(&[&["--json"], words].concat()));
    }
    for output in said {
        assert!(!format!("{output:?}").contains(SECRET), "{output:?}");
    }
    let daemon = sandbox.daemon_pid().unwrap();
    assert_not_in(Path::new(&format!("/proc/{daemon}/environ")));
    let limits = fs::read_to_string(format!("/proc/{daemon}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let files = files_below(&sandbox.state_dir());
    assert!(files.iter().any(|path| path.ends_with("sessd.db")), "{files:?}");
    files.iter().for_each(|path| assert_not_in(path));
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    files_below(&sandbox.state_dir()).iter().for_each(|path| assert_not_in(path));
}

#[test]
fn a_provider_gets_the_proxy_of_the_calling_shell_only() {
    let mut sandbox = Sandbox::new(BINARIES);
    have_a_witness(&sandbox);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let [upper, lower] = ["http://upper:1", "http://lower:2"];
    sandbox.set_env("HTTPS_PROXY", upper);
    sandbox.set_env("NO_PROXY", "here,there");
    assert_eq!(sandbox.sessctl(&["send", "--new", "echo", "one"]).status, 0);
    for (name, value) in [("HTTPS_PROXY", ""), ("NO_PROXY", ""), ("https_proxy", lower)] {
        sandbox.set_env(name, value);
    }
    sandbox.set_env("no_proxy", "nowhere");
    assert_eq!(sandbox.sessctl(&["send", "--new", "echo", "two"]).status, 0);
    let ways = fs::read_to_string(sandbox.home().join("ways")).unwrap();
    assert_eq!(ways, format!("{upper} but here,there, but\nbut , {lower} but nowhere\n"));
}

#[test]
fn a_secret_that_a_provider_repeats_is_hidden() {
    let sandbox = Sandbox::new(BINARIES);
    replace_agent(&sandbox, TALKATIVE);
    for how in [&["--raw"][..], &["--json"], &["--stream-json", "--raw"]] {
        let mut command = sandbox.command(BINARIES.sessctl);
        command.args([&["send", "--new", "echo", "one"], how].concat());
        let sent = sandbox.run(command.env("ANTHROPIC_API_KEY", SECRET), DEADLINE);
        assert_eq!(sent.status, 6, "{sent:?}");
        assert!(sent.stdout.contains("it is ***"), "{sent:?}");
        assert!(format!("{sent:?}").contains("refused: ***"), "{sent:?}");
        assert!(!format!("{sent:?}").contains(SECRET), "{sent:?}");
    }
    files_below(&sandbox.state_dir()).iter().for_each(|path| assert_not_in(path));
}

#[test]
fn a_key_in_a_tool_servers_address_is_in_no_fault() {
    let sandbox = Sandbox::new(BINARIES);
    let url = format!("https://a.example/s/{SECRET}/mcp");
    let script = format!("#!/bin/sh\necho 'MCP server {url}: 401' >&2\nexit 1\n");
    let program = sandbox.script(sandbox.runtime_dir().join("agent"), script);
    let config = format!(
        "[programs]\nclaude = {program:?}\n[mcp_servers.one]\nurl = {url:?}\n\
         [agents.there]\nprovider = 'claude'\nmcp_servers = ['one']\n"
    );
    sandbox.write(".config/sessd/config.toml", config);
    let sent = sandbox.sessctl(&["send", "--new", "there", "one"]);
    assert_eq!(sent.status, 6, "{sent:?}");
    assert!(sent.stderr.contains("MCP server https://a.example/s/***/mcp: 401"), "{sent:?}");
    let turns = sandbox.json(&["turns"]).to_string();
    assert!(turns.contains("/s/***/mcp: 401") && !turns.contains(SECRET), "{turns}");
}
