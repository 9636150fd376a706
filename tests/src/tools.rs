//! Programs and rights that tests need beside Rust. A test asks for them here, and is skipped if
//! one is missing.

use std::env;
use std::path::PathBuf;

use crate::report;

/// Returns a program's full path on the `PATH` of the test itself. Returns `None`, reported as a
/// skip, if it is not there; `.ci/run` would install it.
pub fn require(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        report::skipped(&format!("`{name}` is not installed"));
    }
    found
}

/// True if the test runs as root; else it is reported as skipped because of `what`.
pub fn require_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        report::skipped(&format!("{what} needs root"));
    }
    is_root
}

/// Returns a program's full path on the `PATH` of the test itself, if it is there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}
