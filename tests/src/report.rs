//! Reports of tests that pass: skips, measured figures, premises. Not written with `eprintln!`,
//! since the test harness hides its text for tests that pass. What a program counts afterwards is
//! also appended to the file that `SESSD_TEST_SEEN` names, one line each with tabs between.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::thread;

/// Reports that a test is skipped because something is missing that `.ci/run` installs. With `CI`
/// set this is a failure, since the skip would hide a broken setup.
pub fn skipped(reason: &str) {
    let on_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!on_ci, "skipped, which CI does not allow: {reason}");
    say("SKIPPED", reason);
}

/// Reports that a test is skipped because the kernel or the container does not permit it even to
/// root. No installation can change that, so it is not a failure with `CI` set either.
pub fn not_permitted(reason: &str) {
    say("SKIPPED, not permitted here", reason);
}

/// Reports a part of a test that only the long suite runs (`SESSD_TEST_LONG=1`).
pub fn left_to_long(what: &str) {
    say("left to SESSD_TEST_LONG=1", what);
}

/// Reports a measured figure.
pub fn figure(text: &str) {
    say("figure", text);
}

/// Reports something that a test takes for granted of a CLI of this version. A premise that fell
/// is not a failure: the promise of the test may hold for another reason.
pub fn premise(provider: &str, version: &str, text: &str, holds: bool) {
    let state = if holds { "held" } else { "fell" };
    note(&[state, provider, version, &test(), text]);
    if !holds {
        say("PREMISE FELL", &format!("{provider} {version}: {text} ({})", test()));
    }
}

/// Notes that the present test runs with a CLI of this version.
pub fn row(provider: &str, version: &str) {
    note(&["row", provider, version, &test(), ""]);
}

/// Returns the name of the present test: the harness names each thread by its test.
fn test() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

fn note(words: &[&str]) {
    let Some(path) = env::var_os("SESSD_TEST_SEEN") else { return };
    if let Ok(mut file) = File::options().create(true).append(true).open(path) {
        let _ = file.write_all(format!("{}\n", words.join("\t")).as_bytes());
    }
}

fn say(kind: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {text}");
}
