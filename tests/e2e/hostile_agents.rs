//! Promise: whatever a provider does, its turn ends, the daemon stays small, nothing of it is left,
//! and the next turn works. Only what the real CLIs cannot be made to do; the agent is a script.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use sessd_tests::daemon::is_running;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;

/// Does what its prompt says; its fifth argument is its session.
const SCRIPT: &str = r#"#!/bin/sh
read -r mode
started() { echo "{\"type\":\"started\",\"data\":{\"provider_session_id\":\"$5\"}}"; }
finished() { echo '{"type":"text","text":"done"}'; echo '{"type":"result","text":"done"}'; }
line() { head -c "$1" /dev/zero | tr '\0' x; echo; }
echo $$ >~/leader
case $mode in
hang) started "$@"; exec sleep 1000 ;;
deaf) started "$@"; trap '' TERM; while :; do sleep 1; done ;;
vast) started "$@"; trap '' TERM; exec dd if=/dev/zero of=/dev/null bs=512M 2>&- ;;
flood) started "$@"; yes "$(line 60000)" | head -c 1073741824 ;;
signal) started "$@"; kill -9 $$ ;;
away)
    started "$@"
    setsid sh -c 'setsid sh -c "echo \$\$ >~/stray; exec sleep 1000" &'
    finished ;;
away-and-hang) started "$@"; setsid sh -c 'echo $$ >~/stray; exec sleep 1000' & wait; sleep 1000 ;;
gone*)
    started "$@"
    rm -f ~/stray
    setsid sh -c 'echo $$ >~/stray; exec sleep 1000' >/dev/null 2>&1 </dev/null &
    while [ ! -s ~/stray ]; do sleep 0.01; done
    [ "$mode" = gone ] || exec sleep 1000
    finished ;;
lines) started "$@"; line 10485760; line 10485760; line 10485760; finished ;;
itself)
    started "$@"
    for to in "$5" --last "--steal $5" "--detach --steal $5" "--steal --last"; do
        sessctl send $to hello 2>>~/refused; echo $? >>~/refused
    done
    sessctl resume --steal "$5" >~/resumed 2>&1; echo $? >>~/resumed
    sessctl send --detach "$5" hello >~/detached; echo $? >>~/detached
    finished ;;
bytes) started "$@"; printf '\377\376{\200}\n'; finished ;;
*) started "$@"; finished ;;
esac
"#;

/// Announces another thread each time it runs, and is killed the first time before there is more.
const FORGETFUL: &str = r#"#!/bin/sh
cat >/dev/null
echo x >>~/runs
id="00000000-0000-7000-8000-00000000000$(wc -l <~/runs)"
echo "{\"type\":\"thread.started\",\"thread_id\":\"$id\"}"
[ "$(wc -l <~/runs)" = 1 ] && kill -9 $$
echo '{"type":"item.completed","item":{"type":"agent_message","text":"done"}}'
echo '{"type":"turn.completed","usage":{}}'
"#;

fn sandbox() -> Sandbox {
    with_agent("echo", SCRIPT)
}

fn with_agent(provider: &str, script: &str) -> Sandbox {
    let sandbox = Sandbox::new(BINARIES);
    replace_agent(&sandbox, provider, script);
    sandbox
}

/// Puts a script in the place of a provider's program.
pub(crate) fn replace_agent(sandbox: &Sandbox, provider: &str, script: &str) {
    let program = sandbox.script("agent", script);
    let config = format!("[programs]\n{provider} = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
}

fn send(sandbox: &Sandbox, mode: &str) -> Output {
    sandbox.sessctl(&["send", "--new", "echo", mode])
}

/// The same for what does not end by itself: long enough for its first words.
fn send_for_a_while(sandbox: &Sandbox, mode: &str) -> Output {
    sandbox.sessctl(&["send", "--timeout", "8s", "--new", "echo", mode])
}

/// The process that wrote its pid into this file is gone; nothing of the turn is left.
#[track_caller]
fn assert_gone(sandbox: &Sandbox, name: &str) {
    let pid = fs::read_to_string(sandbox.home().join(name)).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    wait_until(&format!("the end of the {name}"), DEADLINE, || (!is_running(pid)).then_some(()));
    let daemon = sandbox.daemon_pid().unwrap();
    let zombie = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |it| it.1).to_owned();
        rest.starts_with(&format!("Z {daemon} "))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    assert!(!pids.into_iter().any(zombie), "a zombie");
}

/// The next turn of the newest session.
#[track_caller]
fn assert_the_next_works(sandbox: &Sandbox) {
    let next = sandbox.sessctl(&["send", &sandbox.ids()[0], "hello"]);
    assert_eq!((next.status, &*next.stdout), (0, "done\n"), "{next:?}");
}

/// The most memory that the daemon ever had, in MiB.
fn peak_mib(sandbox: &Sandbox) -> u64 {
    let status = format!("/proc/{}/status", sandbox.daemon_pid().unwrap());
    let status = fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_provider_that_hangs_is_ended_by_the_deadline() {
    let sandbox = sandbox();
    for mode in ["hang", "deaf"] {
        let ended = send_for_a_while(&sandbox, mode);
        assert_eq!((ended.status, &*ended.stdout), (7, ""), "{mode}: {ended:?}");
        assert_gone(&sandbox, "leader");
        assert_the_next_works(&sandbox);
    }
}

#[test]
fn a_provider_that_dies_by_a_signal_has_failed() {
    let sandbox = sandbox();
    let ended = send(&sandbox, "signal");
    assert_eq!(ended.status, 6, "{ended:?}");
    assert!(ended.stderr.contains("signal: 9"), "{ended:?}");
    assert_gone(&sandbox, "leader");
    assert_the_next_works(&sandbox);
}

/// A killed daemon takes its time to end, as its memory is large.
#[test]
fn a_provider_that_outlives_its_daemon_blocks_no_turn() {
    let sandbox = sandbox();
    assert_eq!(send(&sandbox, "hello").status, 0);
    let [ref id] = sandbox.ids()[..] else { panic!("{:?}", sandbox.ids()) };
    let send = |mode: &str| sandbox.sessctl(&["send", "--detach", id, mode]);
    let vast = send("vast").stdout;
    let memory = || {
        let leader = fs::read_to_string(sandbox.home().join("leader")).ok()?;
        fs::read_to_string(format!("/proc/{}/statm", leader.trim())).ok()
    };
    wait_until("an agent with memory", DEADLINE, || {
        let pages = memory()?.split(' ').nth(1)?.parse::<u64>().ok()?;
        (pages > 100_000).then_some(())
    });
    let next = send("hello").stdout;
    sandbox.kill_daemon();
    let next = sandbox.sessctl(&["turns", "follow", next.trim()]);
    assert_eq!((next.status, &*next.stdout), (0, "done\n"), "{next:?}");
    assert_eq!(sandbox.sessctl(&["turns", "follow", vast.trim()]).status, 6);
    assert_gone(&sandbox, "leader");
}

#[test]
fn a_provider_that_floods_is_ended_and_costs_no_memory() {
    let sandbox = sandbox();
    let ended = sandbox.sessctl(&["send", "--new", "echo", "flood"]);
    assert_eq!(ended.status, 6, "{ended:?}");
    assert!(ended.stderr.contains("printed too much"), "{ended:?}");
    assert_gone(&sandbox, "leader");
    assert!(peak_mib(&sandbox) < 64, "{} MiB", peak_mib(&sandbox));
    assert_the_next_works(&sandbox);
}

#[test]
fn long_lines_and_bytes_that_are_not_text_are_skipped() {
    let sandbox = sandbox();
    for mode in ["lines", "bytes"] {
        let ended = send(&sandbox, mode);
        assert_eq!((ended.status, &*ended.stdout), (0, "done\n"), "{mode}: {ended:?}");
        assert_gone(&sandbox, "leader");
        let raw = sandbox.sessctl(&["send", "--raw", "--new", "echo", mode]);
        assert_eq!((raw.status, raw.stdout.lines().count() >= 4), (0, true), "{mode}");
    }
    assert!(peak_mib(&sandbox) < 100, "{} MiB", peak_mib(&sandbox));
}

/// It has left the group, but still has the pipe that we read.
#[test]
fn a_provider_that_forks_away_takes_nothing_with_it() {
    let sandbox = sandbox();
    let ended = send(&sandbox, "away");
    assert_eq!((ended.status, &*ended.stdout), (0, "done\n"), "{ended:?}");
    assert_gone(&sandbox, "stray");
    let ended = send_for_a_while(&sandbox, "away-and-hang");
    assert_eq!(ended.status, 7, "{ended:?}");
    assert_gone(&sandbox, "stray");
    assert_gone(&sandbox, "leader");
    assert_the_next_works(&sandbox);
}

/// It has left the group and let go of every pipe: only a turn that ends by itself leaves it alone.
#[test]
fn a_daemonized_provider_ends_with_its_ended_turn() {
    let sandbox = sandbox();
    let ended = send(&sandbox, "gone");
    assert_eq!((ended.status, &*ended.stdout), (0, "done\n"), "{ended:?}");
    let stray = || fs::read_to_string(sandbox.home().join("stray")).ok();
    let first = stray().unwrap();
    assert!(is_running(first.trim().parse().unwrap()), "what was left running is ended");

    let ended = send_for_a_while(&sandbox, "gone-and-hang");
    assert_eq!(ended.status, 7, "{ended:?}");
    assert_gone(&sandbox, "stray");

    let second = stray();
    sandbox.json(&["send", "--detach", "--new", "echo", "gone-and-hang"]);
    wait_until("a third one", DEADLINE, || {
        stray().filter(|third| third.ends_with('\n') && Some(third) != second.as_ref())
    });
    sandbox.kill_daemon();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    assert_gone(&sandbox, "stray");
    assert!(is_running(first.trim().parse().unwrap()), "what was left running is ended");
}

#[test]
fn a_provider_that_sends_to_its_own_session_is_refused() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("hello");
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    replace_agent(&sandbox, "echo", SCRIPT);
    sandbox.link("sessctl", Path::new(BINARIES.sessctl));
    let ended = sandbox.sessctl(&["send", &id, "itself"]);
    assert_eq!((ended.status, &*ended.stdout), (0, "done\n"), "{ended:?}");
    let refused = fs::read_to_string(sandbox.home().join("refused")).unwrap();
    assert_eq!(refused.matches("runs in a turn of session").count(), 4, "{refused}");
    assert_eq!(refused.matches("may stop the turn that").count(), 1, "{refused}");
    let statuses = refused.lines().filter(|line| line.len() == 1);
    assert_eq!(statuses.collect::<Vec<_>>(), ["4", "4", "4", "4", "2"], "{refused}");
    let resumed = fs::read_to_string(sandbox.home().join("resumed")).unwrap();
    assert!(resumed.contains("is busy") && resumed.ends_with("\n4\n"), "{resumed}");
    let detached = fs::read_to_string(sandbox.home().join("detached")).unwrap();
    let (turn, status) = detached.trim().split_once('\n').unwrap();
    assert_eq!(status, "0");
    assert_eq!(sandbox.sessctl(&["turns", "follow", turn]).stdout, "done\n");
}

/// A session of codex whose id was announced before its program was killed.
fn announced(sandbox: &Sandbox) -> String {
    let killed = sandbox.sessctl(&["send", "--new", "codex", "hello"]);
    assert_eq!(killed.status, 6, "{killed:?}");
    let [ref id] = sandbox.ids()[..] else { panic!("{:?}", sandbox.ids()) };
    let shown = sandbox.json(&["show", id]);
    assert_eq!(shown["provider_session_id"], "00000000-0000-7000-8000-000000000001");
    assert_eq!(shown["reason"], "starting");
    id.clone()
}

#[track_caller]
fn assert_goes_on(sandbox: &Sandbox, id: &str) {
    let next = sandbox.sessctl(&["send", id, "hello"]);
    assert_eq!((next.status, &*next.stdout), (0, "done\n"), "{next:?}");
    let shown = sandbox.json(&["show", id]);
    assert_eq!(shown["provider_session_id"], "00000000-0000-7000-8000-000000000002");
}

#[test]
fn an_announced_id_that_was_never_written_blocks_no_turn() {
    let sandbox = with_agent("codex", FORGETFUL);
    assert_goes_on(&sandbox, &announced(&sandbox));
}

#[test]
fn an_announced_id_is_given_up_only_in_a_readable_home() {
    let sandbox = with_agent("codex", FORGETFUL);
    let lost = sandbox.dir(".codex/sessions").join("2026");
    let id = announced(&sandbox);
    symlink("/no/such", &lost).unwrap();
    let doubtful = sandbox.sessctl(&["send", &id, "hello"]);
    assert!(doubtful.stderr.contains("cannot tell now whether"), "{doubtful:?}");
    fs::remove_file(&lost).unwrap();
    assert_goes_on(&sandbox, &id);
}
