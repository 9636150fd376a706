//! The cache directory for files that are slow to make or to download, shared by all checkouts:
//! `SESSD_TEST_CACHE`, else `sessd-tests` below the user's cache directory. Knows none of the
//! files.

use std::env;
use std::fs;
use std::path::PathBuf;

/// Returns a directory of the cache, which is made if it is missing.
pub fn directory(name: &str) -> PathBuf {
    let path = root().join(name);
    fs::create_dir_all(&path).expect("a cache that can be written, see SESSD_TEST_CACHE");
    path
}

fn root() -> PathBuf {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let root = variable("SESSD_TEST_CACHE").or_else(|| Some(users()?.join("sessd-tests")));
    root.expect("SESSD_TEST_CACHE or HOME")
}
