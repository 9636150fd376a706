//! Reports of tests that pass: skips, and measured figures. Not written with `eprintln!`, since the
//! test harness hides its text for tests that pass.

use std::env;
use std::io::{self, Write};

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

fn say(kind: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {text}");
}
