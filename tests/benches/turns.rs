//! Turns: what `send` costs beyond the provider itself, events through the daemon to a follower,
//! prompts that wait, and the daemon's memory while many follow.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sessd_proto::client::Client;
use sessd_proto::turn::{SendRequest, TurnOutput, TurnOutputRequest};
use sessd_tests::model_server::ModelServer;
use sessd_tests::real_cli::{Claude, RealCli};
use sessd_tests::sandbox::Sandbox;
use uuid::Uuid;

use crate::store::resident_mb;
use crate::timing::{Subject, median, ms, times};
use crate::{BINARIES, row};

/// Events of the turn that floods.
const EVENTS: usize = 100_000;

const WAITING: usize = 1_000;

const FOLLOWERS: usize = 50;

pub(crate) fn turns() {
    overhead_over_echo();
    overhead_over_claude();
    queue();
    followers();
}

fn overhead_over_echo() {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let home = sandbox.dir("direct");
    let direct = || {
        let mut command = sandbox.command(BINARIES.sessd);
        command.args(["echo", "--once", "--session", &Uuid::new_v4().to_string(), "--home"]);
        command.arg(&home);
        command
    };
    overhead("echo", 100, &sandbox, direct);
}

fn overhead_over_claude() {
    let server = ModelServer::start();
    let mut sandbox = Sandbox::new(BINARIES);
    let project = sandbox.home();
    if !Claude.prepare(&mut sandbox, &server, &[&project]) {
        return;
    }
    sandbox.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let direct = || {
        let mut command = sandbox.command("claude");
        command.args(["-p", "--output-format=stream-json", "--verbose", "--session-id"]);
        command.arg(Uuid::new_v4().to_string());
        command
    };
    overhead("claude", 100, &sandbox, direct);
}

/// A prompt to a new session, through the daemon and straight to the provider.
fn overhead(provider: &str, rounds: usize, sandbox: &Sandbox, direct: impl Fn() -> Command) {
    let send = || {
        let mut command = sandbox.command(BINARIES.sessctl);
        command.args(["send", "--new", provider, "-"]);
        command
    };
    let mut subjects =
        [Subject::new("direct", || prompt(direct())), Subject::new("send", || prompt(send()))];
    let times = times(&mut subjects, rounds);
    // Of one round each: what the CLI itself takes changes by more than this in a minute.
    let nanos = |time: &Duration| time.as_nanos().cast_signed();
    let beyond = times[1].iter().zip(&times[0]).map(|(send, direct)| nanos(send) - nanos(direct));
    let beyond = median(beyond.collect()) as f64 / 1e6;
    let measured = format!("{beyond:.2} ms beyond {}", ms(median(times[0].clone())));
    row(
        &format!("`sessctl send --new {provider}` − the same run directly"),
        "",
        &measured,
        "≤ 10 ms",
    );
}

fn prompt(mut command: Command) {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

/// Prompts that wait behind one another in one session.
fn queue() {
    let sandbox = Sandbox::new(BINARIES);
    let id = sandbox.new_session("one");
    let mut client = sandbox.client();
    let started = Instant::now();
    let request = |prompt: &str| SendRequest {
        turn_id: Uuid::new_v4().to_string(),
        selector: Some(id.clone()),
        prompt: prompt.to_owned(),
        ..SendRequest::default()
    };
    let sent: Vec<_> = (0..WAITING).map(|_| client.send(request("more")).unwrap()).collect();
    let at = format!("{WAITING} prompts, one session");
    row("to accept all of them", &at, &ms(started.elapsed()), "");
    let last = sent.into_iter().next_back().unwrap().turn.id;
    to_its_end(&mut client, last, |_| ());
    row("until all are answered by echo", &at, &ms(started.elapsed()), "");
}

/// One turn that says much, followed by one and by many.
fn followers() {
    let sandbox = Sandbox::new(BINARIES);
    let event = r#"{"type":"text","text":"a few words of an answer that arrives in small pieces"}"#;
    let script = format!(
        "#!/bin/sh\nread -r pass\n\
         echo '{{\"type\":\"started\",\"data\":{{\"provider_session_id\":\"'$5'\"}}}}'\n\
         yes '{event}' | head -n {EVENTS}\necho '{{\"type\":\"result\"}}'\n"
    );
    let program = sandbox.script("talkative", script);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let at = format!("{EVENTS} events");
    let alone = talk(&sandbox, 1);
    let rate = EVENTS as f64 / alone.as_secs_f64();
    row("events through the daemon to a follower", &at, &format!("{rate:.0} a second"), "");
    let before = resident_mb(&sandbox, "VmRSS");
    let many = talk(&sandbox, FOLLOWERS);
    let rate = (EVENTS * FOLLOWERS) as f64 / many.as_secs_f64();
    let at = format!("{FOLLOWERS} followers of one turn, {at}");
    row("events to all of them", &at, &format!("{rate:.0} a second"), "");
    let peak = resident_mb(&sandbox, "VmHWM");
    row("daemon memory, peak (before)", &at, &format!("{peak:.1} MB ({before:.1} MB)"), "");
}

/// Returns the time a turn takes until all its followers have everything.
fn talk(sandbox: &Sandbox, followers: usize) -> Duration {
    let started = Instant::now();
    let request = SendRequest {
        turn_id: Uuid::new_v4().to_string(),
        new_agent: Some("echo".to_owned()),
        cwd: sandbox.home().to_str().unwrap().to_owned(),
        prompt: "talk".to_owned(),
        ..SendRequest::default()
    };
    let turn = sandbox.client().send(request).unwrap().turn.id;
    thread::scope(|scope| {
        for _ in 0..followers {
            scope.spawn(|| {
                let mut seen = 0;
                let mut client = sandbox.client();
                to_its_end(&mut client, turn.clone(), |part| seen += part.events.len());
                assert_eq!(seen, EVENTS + 2);
            });
        }
    });
    started.elapsed()
}

fn to_its_end(client: &mut Client, turn_id: String, mut look: impl FnMut(&TurnOutput)) {
    let mut request = TurnOutputRequest { turn_id, after: 0, wait_ms: 30_000 };
    loop {
        let part = client.turn_output(request.clone()).unwrap();
        look(&part);
        request.after = part.events.last().map_or(request.after, |event| event.seq);
        if part.session.is_some() {
            return;
        }
    }
}
