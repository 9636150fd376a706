//! The daemon in the background: what it takes over from its caller and what not, its exit
//! status, its log.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sessd_proto::Environment;
use sessd_proto::launch::{CreateRequest, ResumeRequest};
use sessd_proto::turn::SendRequest;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::tree::files_below;
use sessd_tests::wait::{DEADLINE, wait_until};
use uuid::Uuid;

use crate::BINARIES;
use crate::bad_input::assert_fault;

fn daemonize(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    let mut command = sandbox.command(BINARIES.sessd);
    sandbox.run(command.arg("--daemonize").args(arguments), DEADLINE)
}

#[test]
fn the_exit_status_is_true() {
    let sandbox = Sandbox::new(BINARIES);
    assert_fault(&daemonize(&sandbox, &["--socket", "here"]), 1, "a relative socket");
    let folder = sandbox.dir("open");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.join("socket");
    let output = daemonize(&sandbox, &["--socket", socket.to_str().unwrap()]);
    assert_fault(&output, 1, "a folder that others can enter");
    assert!(output.stderr.contains("chmod 700"), "{}", output.stderr);

    let output = daemonize(&sandbox, &[]);
    assert_eq!((output.status, &*output.stderr), (0, ""));
    // No waiting: it answers once its parent has ended.
    let pid = sandbox.client().daemon_pid();
    assert_eq!(sandbox.daemon_pid().map(i32::unsigned_abs), Some(pid));
    // Only root may look.
    if let Ok(directory) = fs::read_link(format!("/proc/{pid}/cwd")) {
        assert_eq!(directory, Path::new("/"));
    }
    assert_fault(&daemonize(&sandbox, &[]), 4, "a second one");
}

#[test]
fn the_daemon_holds_no_lock_of_the_calling_script() {
    let sandbox = Sandbox::new(BINARIES);
    let script = format!("exec 9>~/lock; flock 9 && {} list", BINARIES.sessctl);
    let output = sandbox.run(sandbox.command("sh").args(["-c", &script]), DEADLINE);
    assert_eq!((output.status, &*output.stderr), (0, ""));
    assert_eq!(sandbox.daemons().len(), 1);
    let lock = File::open(sandbox.home().join("lock")).unwrap();
    assert!(lock.try_lock().is_ok(), "the script's lock outlives it");
}

#[test]
fn the_daemons_limits_do_not_reach_providers() {
    let sandbox = Sandbox::new(BINARIES);
    let told = "#!/bin/sh\necho $(umask) $(ulimit -Sn) $(ulimit -Sc) >~/limits\n";
    let program = sandbox.script("telling-echo", told);
    let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    let script = format!(
        "umask 027; ulimit -Sn 512; ulimit -Sc unlimited; exec {} send --new echo hi",
        BINARIES.sessctl
    );
    let sent = sandbox.run(sandbox.command("sh").args(["-c", &script]), DEADLINE);
    assert_eq!(sent.status, 6, "{}", sent.stderr);
    assert_eq!(fs::read_to_string(sandbox.home().join("limits")).unwrap(), "0027 512 unlimited\n");
    let pid = sandbox.daemon_pid().unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let soft = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((soft("Max open files"), soft("Max core file size")), ("8192".into(), "0".into()));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[test]
fn environment_of_a_service_manager_is_not_passed_on() {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.script("tell", "#!/bin/sh\nenv\n");
    let id = sandbox.new_session("hello");
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let config = format!("[programs]\necho = {:?}\n", sandbox.home().join("tell"));
    sandbox.write(".config/sessd/config.toml", config);
    let mut resume = sandbox.command(BINARIES.sessctl);
    resume.args(["resume", &id]).envs([
        ("LISTEN_FDS", "1"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("WATCHDOG_USEC", "1000"),
        ("KEPT", "yes"),
    ]);
    let told = sandbox.run(&mut resume, DEADLINE);
    assert_eq!(told.status, 0, "{}", told.stderr);
    let pid = sandbox.daemon_pid().unwrap();
    // Only root may look.
    let of_daemon = fs::read_to_string(format!("/proc/{pid}/environ")).ok();
    let of_daemon = of_daemon.map(|environment| environment.replace('\0', "\n"));
    for environment in [told.stdout].into_iter().chain(of_daemon) {
        assert!(environment.contains("KEPT=yes"), "{environment}");
        for name in ["LISTEN_FDS=", "NOTIFY_SOCKET=", "WATCHDOG_USEC="] {
            assert!(!environment.contains(name), "{environment}");
        }
    }
}

#[test]
fn the_log_is_private_and_five_files_at_most() {
    let sandbox = Sandbox::new(BINARIES);
    for _ in 0..7 {
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
        let log = File::options().append(true).open(sandbox.state_dir().join("sessd.log")).unwrap();
        assert!(log.metadata().unwrap().len() < 5 * 1024 * 1024, "it is not rotated");
        log.set_len(5 * 1024 * 1024 + 1).unwrap();
    }
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let logs: Vec<_> = files_below(&sandbox.state_dir())
        .into_iter()
        .filter(|path| name(path).starts_with("sessd.log"))
        .collect();
    assert!(logs.iter().all(|p| p.metadata().unwrap().permissions().mode() & 0o777 == 0o600));
    let mut names: Vec<_> = logs.iter().map(|path| name(path)).collect();
    names.sort();
    assert_eq!(names, ["sessd.log", "sessd.log.1", "sessd.log.2", "sessd.log.3", "sessd.log.4"]);

    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let logs = sandbox.sessctl(&["daemon", "logs", "-n", "3"]);
    assert_eq!(logs.status, 0, "{}", logs.stderr);
    assert_eq!(logs.stdout.lines().count(), 3, "it does not go back to older files");
    assert!(logs.stdout.contains("INFO listening on "), "{}", logs.stdout);
}

#[test]
fn the_log_is_followed_through_a_restart() {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let seen = sandbox.home().join("seen");
    let mut follow = sandbox.command(BINARIES.sessctl);
    follow.args(["daemon", "logs", "-f"]).stdout(File::create(&seen).unwrap());
    let mut follow = follow.spawn().unwrap();
    for starts in 1..=2 {
        wait_until("the start in the log", DEADLINE, || {
            let seen = fs::read_to_string(&seen).unwrap();
            (seen.matches("listening on ").count() == starts).then_some(())
        });
        assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn no_secret_of_the_environment_is_in_log_or_registry() {
    const SECRET: &str = "hunter2-is-a-password";
    const PROMPT: &str = "a private prompt";
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("ANTHROPIC_API_KEY", SECRET);
    let record = serde_json::json!({
        "type": "user", "message": {"role": "user", "content": "a question"},
        "timestamp": "2026-11-21T08:00:00.000Z", "cwd": sandbox.home(),
    });
    sandbox.write(".claude/projects/folder/a-session.jsonl", format!("{record}\n"));
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let environment =
        [("ANTHROPIC_API_KEY", SECRET), ("OPENAI_API_KEY", SECRET), ("CODEX_HOME", "/nowhere")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment = Environment(environment.into());
    let request = SendRequest {
        turn_id: Uuid::new_v4().to_string(),
        new_agent: Some("echo".to_owned()),
        cwd: sandbox.home().to_str().unwrap().to_owned(),
        prompt: PROMPT.to_owned(),
        environment: environment.clone(),
        ..SendRequest::default()
    };
    let mut client = sandbox.client();
    client.send(request.clone()).unwrap();
    let new = CreateRequest {
        id: Uuid::new_v4().to_string(),
        agent: "claude".to_owned(),
        cwd: request.cwd,
        environment: environment.clone(),
        ..CreateRequest::default()
    };
    let created = client.create(new).unwrap().session.id;
    let resume = |selector: &str, fork: bool| ResumeRequest {
        selector: Some(selector.to_owned()),
        force: true,
        fork_as: fork.then(|| Uuid::new_v4().to_string()),
        environment: environment.clone(),
        ..ResumeRequest::default()
    };
    client.resume(resume(&created, false)).unwrap();
    client.resume(resume("a-session", true)).unwrap();
    wait_until("the end of the turn", DEADLINE, || {
        (sandbox.json(&["status"])["turns_pending"] == 0).then_some(())
    });
    assert_eq!(sandbox.sessctl(&["send", "no-such-session", PROMPT]).status, 3);
    assert_eq!(sandbox.sessctl(&["resume", "--plan", "--last"]).status, 0);
    // Settled, so that the tables are all in the one file.
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let files = files_below(&sandbox.state_dir());
    let has = |name: &str, text: &str| {
        let of_name = files.iter().filter(|path| path.to_string_lossy().contains(name));
        let contents = of_name.map(|path| fs::read(path).unwrap());
        contents
            .flat_map(|bytes| String::from_utf8_lossy(&bytes).into_owned().into_bytes())
            .collect::<Vec<_>>()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(has("sessd.db", PROMPT) && has("sessd.log", "ended"), "it looks at the wrong files");
    assert!(!has("", SECRET), "a secret is kept");
    assert!(!has("sessd.log", PROMPT), "a prompt is in the log");
}
