//! What a test has to say when it passes: that it was skipped, and the figures it has measured.
//! Not by `eprintln`, which the test harness keeps to itself then.

use std::io::{self, Write};

/// The test does not run here.
pub fn skipped(reason: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
}

/// Something was measured.
pub fn figure(text: &str) {
    let _ = writeln!(io::stderr(), "figure: {text}");
}
