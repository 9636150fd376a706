//! Reports of tests that pass: that one was skipped, and the figures that one has measured.
//! Written past `eprintln!`, whose text the test harness hides then.

use std::env;
use std::io::{self, Write};

/// Reports that a test does not run because something is missing that `.ci/run` installs or
/// provides. With `CI` set this is a failure, since it would hide a broken setup.
pub fn skipped(reason: &str) {
    let on_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!on_ci, "skipped, which CI does not allow: {reason}");
    say("SKIPPED", reason);
}

/// Reports that a test does not run because the kernel or the container does not permit it even
/// to root. Nothing can be installed against that, so it is not a failure with `CI` set either.
pub fn not_permitted(reason: &str) {
    say("SKIPPED, not permitted here", reason);
}

/// Reports what only the long suite runs (`SESSD_TEST_LONG=1`).
pub fn left_to_long(what: &str) {
    say("left to SESSD_TEST_LONG=1", what);
}

/// Reports something that was measured.
pub fn figure(text: &str) {
    say("figure", text);
}

fn say(kind: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {text}");
}
