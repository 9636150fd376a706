//! Programs of others that are measured beside ours, where they are or can be installed: into
//! the shared cache, by cargo and pip, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::wait_until;

use crate::kept;
use crate::timing::{Subject, process, template};

/// Clients of a daemon: `tmux ls` and `pueue status`.
pub(crate) fn talking_to_a_daemon(sandbox: &Sandbox) -> Vec<Subject<'static>> {
    let mut peers = Vec::new();
    let tmux = template(sandbox, "tmux", &["-L", "bench", "new-session", "-d"]);
    if quiet(&mut tmux()) {
        peers.push(process("tmux ls", sandbox, "tmux", &["-L", "bench", "ls"]));
    }
    if let (Some(pueue), Some(pueued)) = (by_cargo("pueue", "pueue"), by_cargo("pueue", "pueued")) {
        let daemon = template(sandbox, &pueued.to_string_lossy(), &["--daemonize"]);
        if quiet(&mut daemon()) {
            let pueue = pueue.to_string_lossy();
            let status = template(sandbox, &pueue, &["status"]);
            wait_until("pueued", Duration::from_secs(10), || quiet(&mut status()).then_some(()));
            peers.push(process("pueue status", sandbox, &pueue, &["status"]));
        }
    }
    peers
}

/// Programs that list the sessions of a home: `agf` and `fr`, from nothing to their first list.
pub(crate) fn indexing(home: &Path) -> Vec<Subject<'_>> {
    let agf = by_cargo("agf", "agf").map(|agf| ("agf list", agf, "list"));
    let fr = by_pip("fast-resume", "fr").map(|fr| ("fr --list", fr, "--list"));
    let subject = |(name, program, argument): (&'static str, PathBuf, &'static str)| {
        let run = move || from_nothing(&program, argument, home);
        Subject { name, run: Box::new(run) }
    };
    [agf, fr].into_iter().flatten().map(subject).collect()
}

/// Runs a program in a fresh home that has the sessions and nothing else.
fn from_nothing(program: &Path, argument: &str, home: &Path) -> Duration {
    let fresh = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(home.join(".claude"), fresh.path().join(".claude")).unwrap();
    // Some list only providers whose program is on PATH.
    std::os::unix::fs::symlink("/usr/bin/true", fresh.path().join("claude")).unwrap();
    let path = format!("{}:/usr/bin:/bin", fresh.path().display());
    let mut command = Command::new(program);
    command.arg(argument).env_clear().env("HOME", fresh.path()).env("PATH", path);
    let started = Instant::now();
    assert!(quiet(&mut command), "{}", program.display());
    started.elapsed()
}

fn by_cargo(package: &str, program: &str) -> Option<PathBuf> {
    let root = kept().join("peers");
    let path = root.join("bin").join(program);
    if !path.exists() {
        let mut install = Command::new("cargo");
        install.args(["install", "--locked", "--quiet", package, "--root"]).arg(&root);
        quiet(&mut install);
    }
    path.exists().then_some(path).or_else(|| missing(program))
}

fn by_pip(package: &str, program: &str) -> Option<PathBuf> {
    let root = kept().join("peers").join(package);
    let path = root.join("bin").join(program);
    if !path.exists() {
        quiet(Command::new("python3").args(["-m", "venv"]).arg(&root));
        quiet(Command::new(root.join("bin/pip")).args(["install", "--quiet", package]));
    }
    path.exists().then_some(path).or_else(|| missing(program))
}

fn missing(program: &str) -> Option<PathBuf> {
    println!("| `{program}` | | not installed here | |");
    None
}

/// Runs a command to its end; `true` if it succeeded.
fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
