//! Private files that launch plans name: written before a start, removed with their session.
//!
//! Secrets must not be arguments, since every user of the machine can read those; so a plan names
//! files, which live in one folder of ours, each readable by us alone. Knows no registry.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sessd_proto::{Fault, FaultCode, LaunchPlan};

use crate::providers::{Home, Launch, LaunchFile, Provider};

/// The folder of all launch files, below our own state.
pub(crate) const FOLDER: &str = "launch";

/// Writes the files that a provider's plan for this launch names.
///
/// # Errors
/// Fails with `internal` if a file cannot be written.
pub(crate) fn write(
    provider: &dyn Provider,
    home: &Home,
    launch: &Launch,
    plan: &LaunchPlan,
) -> Result<(), Fault> {
    let files = provider.launcher().files(home, launch, plan);
    let written = files.iter().try_for_each(|file| match file {
        LaunchFile::Text(name, text) => replace(&launch.file(name), text),
        LaunchFile::Link(name, target) => link(&launch.file(name), target),
        LaunchFile::Folder(name, target) => {
            private_folder(target)?;
            link(&launch.file(name), target)
        }
    });
    written.map_err(|error| {
        Fault::new(FaultCode::Internal, format!("cannot write the launch files: {error}"))
    })
}

/// Removes the files of a session; the targets of links stay. A failure is logged only.
pub(crate) async fn forget(state: &Path, session_id: &str) {
    let (folder, prefix) = (state.join(FOLDER), format!("{session_id}."));
    let forget = move || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    };
    match tokio::task::spawn_blocking(forget).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove the files of a session: {error}");
        }
        _ => {}
    }
}

/// Returns the ids of all sessions that have launch files.
pub(crate) fn session_ids(state: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten();
    let id = |name: OsString| Some(name.to_str()?.split_once('.')?.0.to_owned());
    entries.filter_map(|entry| id(entry.file_name())).collect()
}

/// Replaces a file in one step: a provider that starts now reads the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let staged = staging_path(path)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged)?;
    file.write_all(text.as_bytes())?;
    fs::rename(staged, path)
}

/// Makes a link, replacing any file that a provider has put in its place.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let staged = staging_path(path)?;
    symlink(target, &staged)?;
    fs::rename(staged, path)
}

/// Returns a temporary name beside `path`, and makes the folder if it is missing.
fn staging_path(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    private_folder(&folder)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}", uuid::Uuid::new_v4()));
    Ok(staged.into())
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn forgetting_files_keeps_what_they_link_to() {
        let state = tempfile::tempdir().unwrap();
        let store = state.path().join("home/tmp");
        private_folder(&store).unwrap();
        fs::write(store.join("chat"), "x").unwrap();
        let launch =
            |id: &str| Launch { files: state.path().join(FOLDER).join(id), ..Launch::default() };
        let (gone, kept) = (launch("1"), launch("12"));
        for session in [&gone, &kept] {
            replace(&session.file("mcp.json"), "{}").unwrap();
            link(&session.file("home/store/tmp"), &store).unwrap();
        }
        forget(state.path(), "1").await;
        assert!(!gone.file("mcp.json").exists() && !gone.file("home").exists());
        assert!(kept.file("mcp.json").exists() && kept.file("home/store/tmp/chat").exists());
        assert_eq!(fs::read_to_string(store.join("chat")).unwrap(), "x");
    }

    #[test]
    fn link_replaces_a_file_of_the_provider() {
        let folder = tempfile::tempdir().unwrap();
        let [path, target] = ["path", "target"].map(|name| folder.path().join(name));
        fs::write(&target, "the user's").unwrap();
        fs::write(&path, "the provider's").unwrap();
        link(&path, &target).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "the user's");
    }
}
