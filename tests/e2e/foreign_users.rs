//! Other users of the machine: whatever they have put in the place of our folders, files and
//! socket is refused with one clear line, and our own daemon does not speak with them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use sessd_tests::other_user::OtherUsers;
use sessd_tests::report::figure;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::bad_input::assert_fault;

/// A sandbox that belongs to a user other than root.
fn machine() -> Option<(Sandbox, OtherUsers)> {
    let sandbox = Sandbox::new(BINARIES);
    let users = OtherUsers::of(&sandbox)?;
    Some((sandbox, users))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a folder that belongs to root.
fn make(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    set_mode(path, mode);
}

/// A name, a way to put something in the place of a folder, and the word that reports it.
type Trap = (&'static str, fn(&Path), &'static str);

const TRAPS: [Trap; 6] = [
    ("open to all, another user's", |path| make(path, 0o777), "belongs to user 0"),
    ("closed, another user's", |path| make(path, 0o700), "belongs to user 0"),
    ("a link of another user's to a folder of theirs", link_to_theirs, "is a symbolic link"),
    ("a link of another user's to a folder of ours", link_to_ours, "is a symbolic link"),
    ("a link that leads nowhere", link_to_nothing, "is a symbolic link"),
    ("with pipes in it on which a careless open hangs", with_pipes, "belongs to user 0"),
];

fn link_to_theirs(path: &Path) {
    let theirs = path.with_extension("theirs");
    make(&theirs, 0o777);
    symlink(theirs, path).unwrap();
}

fn link_to_ours(path: &Path) {
    let ours = path.with_extension("ours");
    make(&ours, 0o700);
    chown(&ours, Some(4_242), Some(4_242)).unwrap();
    symlink(ours, path).unwrap();
}

fn link_to_nothing(path: &Path) {
    symlink("/nowhere", path).unwrap();
}

fn with_pipes(path: &Path) {
    make(path, 0o777);
    for name in ["sessd.lock", "start.lock", "sessd.log", "sessd.db", "sessd.sock"] {
        mknodat(CWD, path.join(name), FileType::Fifo, Mode::from(0o666), 0).unwrap();
        set_mode(&path.join(name), 0o666);
    }
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let mut cases = 0;
    for (trap, set, word) in TRAPS {
        for folder in ["the socket's", "the registry's"] {
            let Some((sandbox, users)) = machine() else { return };
            let state = sandbox.state_dir();
            fs::create_dir_all(state.parent().unwrap()).unwrap();
            users.give(&sandbox.home());
            let is_socket = folder == "the socket's";
            let path = if is_socket { sandbox.runtime_dir().join("sessd") } else { state };
            set(&path);
            refuses(&sandbox, &users, &format!("{folder} folder: {trap}"), |output, what| {
                assert_fault(output, 1, what);
                let named = format!("{folder} folder {} {word}", path.display());
                assert!(output.stderr.contains(&named), "{what}: {}", output.stderr);
            });
            let target = fs::read_dir(&path).map_or(0, Iterator::count);
            assert_eq!(target, if trap.starts_with("with pipes") { 5 } else { 0 }, "{trap}");
            // The sandbox itself looks for a lock there.
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            cases += 1;
        }
    }
    figure(&format!("{cases} folders put there by another user: all refused"));
}

/// Has both programs of the sandbox's owner refuse to do anything.
fn refuses(sandbox: &Sandbox, users: &OtherUsers, what: &str, assert: impl Fn(&Output, &str)) {
    let words: [(&str, &[&str]); 4] = [
        (BINARIES.sessctl, &["list"]),
        (BINARIES.sessctl, &["daemon", "start"]),
        (BINARIES.sessd, &["--daemonize"]),
        (BINARIES.sessd, &[]),
    ];
    for (program, words) in words {
        let mut command = users.owner(sandbox, program);
        let output = sandbox.run(command.args(words), DEADLINE);
        assert(&output, &format!("{what}: {words:?}"));
    }
    let mut stop = users.owner(sandbox, BINARIES.sessctl);
    let stopped = sandbox.run(stop.args(["daemon", "stop"]), DEADLINE);
    assert_eq!((stopped.status, sandbox.daemons()), (0, Vec::new()), "{what}: {stopped:?}");
}

/// The kernel tells who listens, even behind a folder of ours.
#[test]
fn a_server_of_another_user_is_told_nothing() {
    let Some((sandbox, users)) = machine() else { return };
    let socket = sandbox.socket();
    fs::create_dir(socket.parent().unwrap()).unwrap();
    set_mode(socket.parent().unwrap(), 0o700);
    users.give(socket.parent().unwrap());
    let listener = UnixListener::bind(&socket).unwrap();
    set_mode(&socket, 0o666);
    let mut list = users.owner(&sandbox, BINARIES.sessctl);
    let output = sandbox.run(list.arg("list"), DEADLINE);
    assert_fault(&output, 1, "a server of another user");
    assert!(output.stderr.contains("belongs to user 0"), "{}", output.stderr);
    let mut heard = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [0; 0], "it was told something");
    assert_eq!(sandbox.daemons(), [0; 0]);
}

#[test]
fn our_daemon_does_not_speak_with_other_users() {
    let Some((sandbox, users)) = machine() else { return };
    let mut start = users.owner(&sandbox, BINARIES.sessctl);
    assert_eq!(sandbox.run(start.args(["daemon", "start"]), DEADLINE).status, 0);
    let socket = sandbox.socket();
    let as_stranger = |status: i32, word: &str, what: &str| {
        let mut command = users.stranger(&sandbox, BINARIES.sessctl);
        command.arg("--socket").arg(&socket).args(["list"]);
        let output = sandbox.run(&mut command, DEADLINE);
        assert_fault(&output, status, what);
        assert!(output.stderr.contains(word), "{what}: {}", output.stderr);
    };
    as_stranger(8, "no permission to connect to", "a stranger");
    // Even with every door open by mistake.
    set_mode(sandbox.home().parent().unwrap(), 0o755);
    set_mode(&sandbox.runtime_dir(), 0o755);
    as_stranger(1, "belongs to user 4242", "a stranger who sees our folder");
    set_mode(socket.parent().unwrap(), 0o777);
    set_mode(&socket, 0o666);
    as_stranger(1, "belongs to user 4242", "a stranger with all doors open");
    // Root comes in everywhere, but is another user to the daemon.
    assert_fault(&sandbox.sessctl(&["list"]), 1, "root");
    let mut heard = Vec::new();
    UnixStream::connect(&socket).unwrap().read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [0; 0], "root is answered");
    set_mode(socket.parent().unwrap(), 0o700);
    let mut list = users.owner(&sandbox, BINARIES.sessctl);
    assert_eq!(sandbox.run(list.arg("list"), DEADLINE).status, 0);
}

/// Every user may take an abstract name, and connect to one.
#[test]
fn an_abstract_socket_is_refused() {
    let mut sandbox = Sandbox::new(BINARIES);
    for name in ["@sessd", "@/sessd.sock"] {
        for program in [BINARIES.sessctl, BINARIES.sessd] {
            let mut command = sandbox.command(program);
            command.args(["--socket", name]);
            let command =
                if program == BINARIES.sessctl { command.arg("list") } else { &mut command };
            let output = sandbox.run(command, DEADLINE);
            assert_fault(&output, 1, name);
            assert!(output.stderr.contains("not absolute: @"), "{}", output.stderr);
        }
    }
    sandbox.set_env("SESSD_SOCKET", "@sessd");
    assert_fault(&sandbox.sessctl(&["list"]), 1, "SESSD_SOCKET");
    assert_eq!(sandbox.daemons(), [0; 0]);
}
