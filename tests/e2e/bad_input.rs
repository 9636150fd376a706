//! Invalid input ends with one clear line, a hint, and its exit code; what is broken
//! around the daemon is said, and nothing is lost.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::process::getuid;
use serde_json::Value;
use sessd_proto::FaultCode;
use sessd_proto::session::ShowRequest;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;

/// One `error:` line first, one hint, nothing on standard output, this exit code.
#[track_caller]
pub(crate) fn assert_fault(output: &Output, status: i32, what: &str) {
    let Output { stdout, stderr, status: ended } = output;
    assert_eq!(*ended, status, "{what}: {stderr}{stdout}");
    assert_eq!(stdout, "", "{what}");
    assert!(stderr.starts_with("error: "), "{what}: {stderr}");
    let begin = |prefix: &str| stderr.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((begin("error: "), begin("hint: ")), (1, 1), "{what}: {stderr}");
    assert!(!stderr.contains("internal error") && !stderr.contains("panicked"), "{what}: {stderr}");
}

#[track_caller]
fn assert_json_fault(output: &Output, status: i32, code: &str) {
    assert_eq!((output.status, &*output.stdout), (status, ""), "{output:?}");
    let said: Value = serde_json::from_str(&output.stderr)
        .unwrap_or_else(|error| panic!("{error}: {}", output.stderr));
    let fault = said["error"].as_object().expect("an error");
    assert_eq!(fault["code"], code);
    assert!(fault["message"].is_string() && fault["hint"].is_string(), "{said}");
    assert!(fault.contains_key("retryable") && fault.contains_key("retry_at"), "{said}");
    assert_eq!((fault.len(), said.as_object().unwrap().len()), (5, 1), "{said}");
}

/// Two transcripts whose ids begin alike.
fn with_twins(sandbox: &Sandbox) {
    for name in ["aaaabbbb-1", "aaaabbbb-2"] {
        let cwd = sandbox.home();
        let record = serde_json::json!({
            "at": "2026-01-01T00:00:00Z", "cwd": cwd, "role": "user", "text": name,
        });
        sandbox.write(&format!(".local/state/sessd/echo/{name}.jsonl"), format!("{record}\n"));
    }
    let private = fs::Permissions::from_mode(0o700);
    for dir in ["", "/echo"] {
        let dir = sandbox.home().join(format!(".local/state/sessd{dir}"));
        fs::set_permissions(dir, private.clone()).unwrap();
    }
}

#[test]
fn an_unknown_selector_is_a_fault_with_a_hint() {
    let sandbox = Sandbox::new(BINARIES);
    with_twins(&sandbox);
    let long = "x".repeat(100_000);
    let cases = [
        ("00000000-0000-4000-8000-000000000000", 3),
        ("abc", 3),
        ("../x", 3),
        ("/etc/passwd", 3),
        ("%", 3),
        ("", 2),
        ("a\u{1}b\u{7f}", 2),
        ("line\nbreak", 2),
        (&long, 2),
        ("@nobody", 3),
        ("@", 3),
        ("aaaabbbb", 3),
        ("-rf", 2),
    ];
    for (selector, status) in cases {
        let shown = selector.get(..40).unwrap_or(selector);
        for words in [&["show", selector][..], &["check", selector], &["resume", selector]] {
            assert_fault(&sandbox.sessctl(words), status, &format!("{} {shown:?}", words[0]));
        }
        let code = match (selector, status) {
            ("aaaabbbb", _) => "ambiguous",
            (_, 2) => "usage",
            _ => "not_found",
        };
        assert_json_fault(&sandbox.sessctl(&["--json", "show", selector]), status, code);
        assert_json_fault(&sandbox.sessctl(&["show", "--json", selector]), status, code);
    }
    assert_fault(&sandbox.sessctl(&["show", "--", "-rf"]), 3, "-- -rf");
    let twins = sandbox.sessctl(&["show", "aaaab"]).stderr;
    assert!(twins.contains("aaaabbbb-1") && twins.contains("aaaabbbb-2"), "{twins}");
    assert_eq!(sandbox.json(&["show", "aaaabbbb-1"])["provider_session_id"], "aaaabbbb-1");
    assert_eq!(sandbox.ids().len(), 2, "asking changed nothing");
}

#[test]
fn a_selector_of_any_size_and_content_does_no_harm() {
    let sandbox = Sandbox::new(BINARIES);
    sandbox.json(&["status"]);
    let code = |selector: String| {
        let mut client = sandbox.client();
        client.show(ShowRequest { selector }).unwrap_err().code
    };
    assert_eq!(code("x".repeat(1024 * 1024)), FaultCode::Usage);
    assert_eq!(code("x".repeat(1024 * 1024 - 200)), FaultCode::Usage);
    assert_eq!(code("nul\0inside".to_owned()), FaultCode::Usage);
    assert_eq!(code("\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}".to_owned()), FaultCode::NotFound);
    assert_eq!(sandbox.daemons().len(), 1);
}

#[test]
fn invalid_limits_and_cursors_are_refused() {
    let sandbox = Sandbox::new(BINARIES);
    let cases: &[&[&str]] = &[
        &["list", "--limit", "501"],
        &["list", "--limit", "0"],
        &["list", "--after", "nonsense"],
        &["list", "--sort", "created", "--after", "activity.1.1"],
        &["list", "--sort", "size"],
        &["list", "--status", "dead"],
        &["list", "--since", "yesterday"],
        &["nonsense"],
    ];
    for words in cases {
        assert_fault(&sandbox.sessctl(words), 2, &format!("{words:?}"));
        assert_json_fault(&sandbox.sessctl(&[&["--json"], *words].concat()), 2, "usage");
    }
    assert_fault(&sandbox.sessctl(&["jobs", "run", "nonsense"]), 3, "jobs run");
    assert_eq!(
        sandbox.json(&["list", "--project", "/no/such/dir"])["sessions"],
        Value::from([0; 0].to_vec())
    );
}

#[test]
fn without_home_it_says_what_to_set_without_xdg_it_works() {
    let sandbox = Sandbox::new(BINARIES);
    let mut command = sandbox.command(BINARIES.sessctl);
    let output = sandbox.run(command.arg("list").env_remove("HOME"), DEADLINE);
    assert_fault(&output, 1, "no HOME");
    assert!(output.stderr.contains("HOME"));
    // With a runtime directory of the user's own the socket would be outside of the sandbox.
    let uid = getuid().as_raw();
    if sessd_proto::paths::is_private(Path::new(&format!("/run/user/{uid}")), uid) {
        return;
    }
    let mut command = sandbox.command(BINARIES.sessctl);
    let command = command.args(["--json", "status"]).env_remove("XDG_RUNTIME_DIR");
    let output = sandbox.run(command, DEADLINE);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let status: Value = serde_json::from_str(&output.stdout).unwrap();
    let socket = sandbox.state_dir().join("run/sessd.sock");
    assert_eq!(status["socket"], socket.to_str().unwrap());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let mut sandbox = Sandbox::new(BINARIES);
    let file = sandbox.write("file", "in the way");
    sandbox.set_env("XDG_STATE_HOME", file.to_str().unwrap());
    let output = sandbox.sessctl(&["list"]);
    assert_fault(&output, 1, "a file in the place of the state directory");
    assert!(output.stderr.contains("XDG_STATE_HOME"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(file).unwrap(), "in the way");

    let open = sandbox.dir("open/sessd");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
    sandbox.set_env("XDG_STATE_HOME", sandbox.dir("open").to_str().unwrap());
    let output = sandbox.sessctl(&["list"]);
    assert_fault(&output, 1, "a state directory open to others");
    assert!(output.stderr.contains("chmod 700"), "{}", output.stderr);
}

#[test]
fn a_socket_folder_that_is_not_ours_alone_is_not_trusted() {
    let sandbox = Sandbox::new(BINARIES);
    let folder = sandbox.runtime_dir().join("sessd");
    let refused = |what: &str| {
        for words in [&["list"][..], &["daemon", "start"]] {
            assert_fault(&sandbox.sessctl(words), 1, &format!("{what}: {words:?}"));
        }
        assert!(!folder.join("sessd.sock").exists(), "{what}");
        assert_eq!(sandbox.daemons(), [0; 0], "{what}");
    };
    let elsewhere = sandbox.dir("elsewhere");
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(elsewhere, &folder).unwrap();
    refused("a symbolic link");
    fs::remove_file(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    refused("a file");
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    refused("open to the group");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    if getuid().is_root() {
        chown(&folder, Some(4242), Some(4242)).unwrap();
        refused("of another user");
        chown(&folder, Some(0), Some(0)).unwrap();
    }
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
}

#[test]
fn a_socket_path_that_cannot_be_used_is_named() {
    let sandbox = Sandbox::new(BINARIES);
    let long = format!("/{}", "x".repeat(107));
    for socket in [&*long, "relative.sock", "/"] {
        let output = sandbox.sessctl(&["--socket", socket, "list"]);
        assert_fault(&output, 1, socket);
        assert!(output.stderr.contains("--socket"), "{}", output.stderr);
    }
    let folder = sandbox.runtime_dir().join("sessd");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(sandbox.socket(), "somebody's file").unwrap();
    let output = sandbox.sessctl(&["list"]);
    assert_fault(&output, 1, "a plain file");
    assert!(output.stderr.contains("is not a socket"), "{}", output.stderr);
    assert_eq!(fs::read_to_string(sandbox.socket()).unwrap(), "somebody's file");
}
