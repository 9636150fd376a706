//! The programs of the providers: which file a start would run, and its version. No program is run
//! for that: even a bare `--version` of some of them writes into the home. Knows no session.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sessd_proto::Fault;

use super::gate::{Gate, LIVE_TIMEOUT};
use crate::providers::{Provider, Version};

/// Folders above a program in which its `package.json` is looked for.
const LEVELS_MAX: usize = 5;

/// Largest `package.json` that is read, in bytes.
const PACKAGE_BYTES_MAX: u64 = 1 << 20;

/// A program as a start would find it, and its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its path; `None` if it is not there.
    pub(crate) path: Option<PathBuf>,
    /// Its version, as its package writes it.
    pub(crate) version: Option<String>,
}

impl Program {
    /// Returns the version as numbers; `None` if it is not known.
    pub(crate) fn number(&self) -> Option<Version> {
        Version::parse(self.version.as_deref()?)
    }
}

/// A file by path, inode and modification time.
type Key = (PathBuf, u64, i64);

/// Finds programs, and remembers their versions.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The programs that the configuration names, by provider.
    configured: BTreeMap<String, PathBuf>,
    /// The daemon's own PATH.
    path: Option<String>,
    /// Admits lookups: a disk on PATH may hang.
    gate: Gate,
    versions: Arc<Mutex<HashMap<Key, Option<String>>>>,
}

impl Programs {
    /// Looks for programs in the configuration, then on PATH.
    pub(crate) fn new(configured: BTreeMap<String, PathBuf>, path: Option<String>) -> Self {
        Self { configured, path, gate: Gate::default(), versions: Arc::default() }
    }

    /// Returns the program that a start with this PATH would run; without one the daemon's counts.
    /// Finds none if a disk on PATH does not answer.
    ///
    /// # Errors
    /// Fails if the lookup panics.
    pub(crate) async fn find(
        &self,
        provider: &'static dyn Provider,
        path: Option<&str>,
    ) -> Result<Program, Fault> {
        let configured = self.configured.get(provider.id()).cloned();
        let path = path.map(str::to_owned).or_else(|| self.path.clone());
        let versions = Arc::clone(&self.versions);
        let look = move || {
            let path = match configured {
                Some(configured) => configured.is_file().then_some(configured),
                None => find_program(provider.program(), path.as_deref()),
            };
            let version = path.as_deref().and_then(|path| remembered(&versions, path));
            Program { version, path }
        };
        Ok(self.gate.pass(LIVE_TIMEOUT, look).await?.unwrap_or_default())
    }
}

/// Returns the first executable file of this name on PATH.
fn find_program(name: &str, path: Option<&str>) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).canonicalize().ok();
    }
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    std::env::split_paths(path?).map(|dir| dir.join(name)).find(is_program)
}

/// Returns the version of a program. It is read again when the file is another one.
fn remembered(versions: &Mutex<HashMap<Key, Option<String>>>, path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let key = (path.to_owned(), metadata.ino(), metadata.mtime());
    let lock = || versions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = lock().get(&key) {
        return version.clone();
    }
    let version = version(path);
    let mut known = lock();
    // What was there before is never asked for again.
    known.retain(|(other, ..), _| other != path);
    known.insert(key, version.clone());
    version
}

/// Reads the version of a program from the `package.json` whose `bin` names it, or from its own
/// name, as in `share/claude/versions/2.1.332`.
fn version(program: &Path) -> Option<String> {
    let real = program.canonicalize().ok()?;
    let above = real.ancestors().skip(1).take(LEVELS_MAX);
    let packaged = above.filter_map(|dir| package(dir, &real)).next();
    let named = || {
        let name = real.file_name()?.to_str()?;
        let is_version = real.parent()?.file_name()? == "versions";
        Version::parse(name).filter(|_| is_version).map(|_| name.to_owned())
    };
    packaged.or_else(named)
}

/// Returns the version of the package in a directory if this program is one of its own.
fn package(dir: &Path, program: &Path) -> Option<String> {
    let file = dir.join("package.json");
    file.metadata().ok().filter(|it| it.is_file() && it.len() <= PACKAGE_BYTES_MAX)?;
    let package: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let named = match &package["bin"] {
        Value::String(one) => vec![one.as_str()],
        Value::Object(all) => all.values().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_it = |name: &&str| dir.join(name).canonicalize().is_ok_and(|path| path == *program);
    named.iter().find(|name| is_it(name))?;
    package["version"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn version_is_that_of_the_package_whose_bin_it_is() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        };
        let package = r#"{"name":"x","version":"1.2.3","bin":{"x":"bin/x.js"}}"#;
        write("lib/node_modules/x/package.json", package);
        write("lib/node_modules/x/bin/x.js", "");
        write("lib/node_modules/x/bin/other.js", "");
        fs::create_dir(path("bin")).unwrap();
        symlink("../lib/node_modules/x/bin/x.js", path("bin/x")).unwrap();
        symlink("../lib/node_modules/x/bin/other.js", path("bin/y")).unwrap();
        assert_eq!(version(&path("bin/x")).as_deref(), Some("1.2.3"));
        assert_eq!(version(&path("bin/y")), None);
        // A package of a project that merely lies above is another one.
        write("package.json", r#"{"name":"app","version":"9.9.9"}"#);
        write("bin/z", "");
        assert_eq!(version(&path("bin/z")), None);
        write("share/x/versions/2.1.5", "");
        symlink("../share/x/versions/2.1.5", path("bin/v")).unwrap();
        assert_eq!(version(&path("bin/v")).as_deref(), Some("2.1.5"));
    }

    #[test]
    fn version_is_read_again_after_an_update() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("x");
        let install = |version: &str| {
            let folder = root.path().join(version);
            fs::create_dir(&folder).unwrap();
            let package = format!(r#"{{"version":"{version}","bin":"x.js"}}"#);
            fs::write(folder.join("package.json"), package).unwrap();
            fs::write(folder.join("x.js"), version).unwrap();
            let _ = fs::remove_file(&program);
            symlink(folder.join("x.js"), &program).unwrap();
        };
        let versions = Mutex::default();
        for version in ["1.0.0", "2.0.0"] {
            install(version);
            assert_eq!(remembered(&versions, &program).as_deref(), Some(version));
        }
        assert_eq!(versions.lock().unwrap().len(), 1);
    }
}
