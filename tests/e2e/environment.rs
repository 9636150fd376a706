//! Promise: what a provider needs of the caller's shell travels with the call, and it gets nothing
//! of another shell. The agent is a script.

use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;

const SCRIPT: &str = r#"#!/bin/sh
read -r prompt
echo "{\"type\":\"started\",\"data\":{\"provider_session_id\":\"$5\"}}"
echo "{\"type\":\"text\",\"text\":\"<$CORP_VALUE> <$OTHER_VALUE>\"}"
echo '{"type":"result"}'
"#;

#[test]
fn variables_named_in_the_configuration_travel_with_the_call() {
    let sandbox = Sandbox::new(BINARIES);
    let program = sandbox.script("witness", SCRIPT);
    let program = program.display().to_string();
    let config =
        format!("[programs]\necho = {program:?}\n[environment]\necho = [\"CORP_VALUE\"]\n");
    sandbox.write(".config/sessd/config.toml", config);
    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = sandbox.command(BINARIES.sessctl);
        command.args(words).envs(variables.iter().copied());
        let output = sandbox.run(&mut command, DEADLINE);
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    };
    // The environment of the call that starts the daemon is not lent to other calls.
    run(&["daemon", "start"], &[("CORP_VALUE", "theirs")]);
    let send = ["send", "--new", "echo", "what have you got?"];
    let ours = [("CORP_VALUE", "ours"), ("OTHER_VALUE", "ours")];
    assert_eq!(run(&send, &ours), "<ours> <>\n");
    assert_eq!(run(&send, &[]), "<> <>\n");
}
