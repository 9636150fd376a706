//! A home of many sessions on disk: the first listing, a sweep without news, and memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sessd_tests::large_home;
use sessd_tests::sandbox::Sandbox;

use crate::store::{resident_mb, whole_process};
use crate::timing::{Subject, medians, ms, process, ratio};
use crate::{BINARIES, kept, peers, row};

pub(crate) fn sweeps(files: usize) {
    let (home, bytes) = home_of(files);
    let at = format!("{files} sessions, {} MB", bytes / 1_000_000);
    let mut sandbox = Sandbox::new(BINARIES);
    sandbox.set_env("CLAUDE_CONFIG_DIR", home.join(".claude").to_string_lossy());
    let ours = || first_listing(&sandbox, files);
    let mut subjects = vec![Subject { name: "sessctl list", run: Box::new(ours) }];
    subjects.extend(peers::indexing(&home));
    let times = medians(&mut subjects, 5);
    row("first listing after the first start", &at, &ms(times[0]), "");
    for (subject, time) in subjects.iter().zip(&times).skip(1) {
        let measured = format!("{:.2} × ({})", ratio(times[0], *time), ms(*time));
        row(&format!("first listing ÷ `{}`", subject.name), &at, &measured, "≤ 0.33");
    }
    // The peak and the rest of a daemon that has done nothing else.
    first_listing(&sandbox, files);
    let peak = format!("{:.1} MB", resident_mb(&sandbox, "VmHWM"));
    row("daemon memory, peak of that listing", &at, &peak, "≤ 100 MB");
    // The memory of an import is given back after the lists that waited for it.
    thread::sleep(Duration::from_secs(2));
    let idle = format!("{:.1} MB", resident_mb(&sandbox, "VmRSS"));
    row("daemon memory, idle afterwards", &at, &idle, "≤ 15 MB");
    whole_process(&sandbox, &at, false);
    rescan(&sandbox, &home, &at);
    for job in ["heartbeat", "discovery"] {
        assert_eq!(sandbox.sessctl(&["jobs", "run", job]).status, 0);
    }
    let rest = format!("{:.1} MB", resident_mb(&sandbox, "VmRSS"));
    row("daemon memory, idle after a heartbeat and sweeps", &at, &rest, "≤ 15 MB");
}

/// From nothing to a list with every session counted.
fn first_listing(sandbox: &Sandbox, files: usize) -> Duration {
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let _ = fs::remove_dir_all(sandbox.state_dir());
    let started = Instant::now();
    let listed = sandbox.sessctl(&["list"]);
    let time = started.elapsed();
    assert_eq!(listed.stdout.lines().count(), 50, "{}", listed.stderr);
    assert!(listed.stderr.is_empty(), "not complete: {}", listed.stderr);
    let status = sandbox.sessctl(&["status", "--json"]).stdout;
    assert!(status.contains(&format!("\"sessions\":{files}")), "{status}");
    time
}

fn rescan(sandbox: &Sandbox, home: &Path, at: &str) {
    let projects = home.join(".claude/projects");
    let projects = projects.to_str().unwrap();
    let words = [projects, "-name", "*.jsonl", "-printf", "%p %s %T@ %i\\n"];
    let find = process("find", sandbox, "find", &words);
    let sweep = process("sweep", sandbox, BINARIES.sessctl, &["jobs", "run", "discovery"]);
    let times = medians(&mut [find, sweep], 3);
    let measured = format!("{:.2} × ({})", ratio(times[1], times[0]), ms(times[1]));
    row("sweep with nothing changed ÷ `find -printf`", at, &measured, "≤ 1.5");
}

/// A home of this many sessions and its bytes, made once.
fn home_of(files: usize) -> (PathBuf, u64) {
    let home = kept().join(format!("home-{files}"));
    let size = home.join("bytes");
    if let Some(bytes) = fs::read_to_string(&size).ok().and_then(|text| text.parse().ok()) {
        return (home, bytes);
    }
    let _ = fs::remove_dir_all(&home);
    let bytes = large_home::make(&home, files);
    fs::write(size, bytes.to_string()).unwrap();
    // Writing back hundreds of megabytes would disturb what is measured next.
    let _ = Command::new("sync").stdin(Stdio::null()).status();
    (home, bytes)
}
