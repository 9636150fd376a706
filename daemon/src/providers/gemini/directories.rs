//! The directory of a folder of chats. Newer versions name the folder by a slug and write the
//! directory into it; older ones name it by the SHA-256 of the directory, and write it nowhere.
//!
//! So the directory of an old folder is found by hashing every directory that is known. The CLI
//! itself copies the chats of an old folder into the one by slug when it is started in the
//! directory, and leaves the old ones: a chat that is in both is that of the slug. Knows no
//! registry; writes nothing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::providers::{Home, Listed, file, listing};

/// The directories that a home knows, read once.
pub(super) struct Directories {
    home: Home,
    by_hash: OnceLock<HashMap<String, String>>,
    by_slug: OnceLock<HashMap<String, String>>,
}

impl Directories {
    pub(super) fn of(home: &Home) -> Self {
        Self { home: home.clone(), by_hash: OnceLock::new(), by_slug: OnceLock::new() }
    }

    /// Returns the directory of a folder of chats. Older homes name it only in the list of
    /// projects.
    pub(super) fn of_folder(&self, name: &str) -> Option<String> {
        if let Some(marked) = marked(&self.home.path.join("tmp").join(name)) {
            return Some(marked);
        }
        if is_hash(name) {
            let by_hash = self.by_hash.get_or_init(|| by_hash(&self.home));
            return by_hash.get(name).cloned();
        }
        self.by_slug.get_or_init(|| by_slug(&self.home)).get(name).cloned()
    }

    /// Returns the old folder that has this chat too: its directory's, if that has a file of the
    /// same name.
    pub(super) fn old_folder(&self, directory: &str, path: &Path) -> Option<String> {
        let hash = hash(directory);
        let chats = self.home.path.join("tmp").join(&hash).join("chats");
        let stem = path.file_stem()?;
        let is_there = |ending: &str| chats.join(stem).with_extension(ending).is_file();
        (!is_hash(scope(&self.home, path)?) && ["json", "jsonl"].into_iter().any(is_there))
            .then_some(hash)
    }
}

/// True if an old folder's name stands for this directory.
pub(super) fn is_of(folder: &str, directory: &str) -> bool {
    is_hash(folder) && hash(directory) == folder
}

/// Returns the folder of a chat, by name: a slug or a hash.
pub(super) fn scope<'a>(home: &Home, path: &'a Path) -> Option<&'a str> {
    path.strip_prefix(home.path.join("tmp")).ok()?.iter().next()?.to_str()
}

/// Drops the files that the CLI has copied: from an old folder into the one by slug, and from the
/// old format into the new one beside it. Both keep the name.
pub(super) fn drop_superseded(home: &Home, found: &mut Vec<Listed>) {
    let place = |listed: &Listed| {
        let path = Path::new(&listed.location);
        let stem = path.with_extension("").strip_prefix(home.path.join("tmp")).ok()?.to_owned();
        let folder = stem.iter().next()?.to_str()?.to_owned();
        let rest = stem.iter().skip(1).collect::<PathBuf>();
        let is_old = path.extension().is_some_and(|it| it == "json");
        Some((folder, rest, is_old))
    };
    let all: Vec<_> = found.iter().map(place).collect();
    let places = || all.iter().flatten();
    let rewritten: HashSet<_> = places().filter(|it| !it.2).map(|it| (&it.0, &it.1)).collect();
    let mut moved = HashSet::new();
    if places().any(|(folder, ..)| is_hash(folder)) {
        let directories = Directories::of(home);
        let mut hashes = HashMap::new();
        for (folder, rest, _) in places().filter(|(folder, ..)| !is_hash(folder)) {
            let of = || directories.of_folder(folder).map(|it| hash(&it));
            if let Some(hash) = hashes.entry(folder).or_insert_with(of) {
                moved.insert((hash.clone(), rest));
            }
        }
    }
    let mut kept = all.iter().map(|place| {
        let Some((folder, rest, is_old)) = place else { return true };
        let is_rewritten = *is_old && rewritten.contains(&(folder, rest));
        !is_rewritten && !moved.contains(&(folder.clone(), rest))
    });
    found.retain(|_| kept.next().unwrap_or(true));
}

fn by_slug(home: &Home) -> HashMap<String, String> {
    let projects = keys(&home.path.join("projects.json"), "/projects").into_iter().rev();
    projects.filter_map(|(dir, slug)| Some((slug?, dir))).collect()
}

fn by_hash(home: &Home) -> HashMap<String, String> {
    let projects = keys(&home.path.join("projects.json"), "/projects");
    let trusted = keys(&home.path.join("trustedFolders.json"), "");
    let named = projects.into_iter().chain(trusted).map(|(dir, _)| dir);
    let marked = listing::folders(&home.path.join("tmp")).into_iter().filter_map(|it| marked(&it));
    named.chain(marked).map(|dir| (hash(&dir), dir)).collect()
}

/// Returns the directory that is written into a folder of chats.
fn marked(folder: &Path) -> Option<String> {
    let text = file::settings(&folder.join(".project_root"))?;
    Some(text.trim().to_owned()).filter(|path| !path.is_empty())
}

/// Returns the keys of an object in a file, and the values that are text.
fn keys(path: &Path, pointer: &str) -> Vec<(String, Option<String>)> {
    let value =
        file::small(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let object = value.as_ref().and_then(|value| value.pointer(pointer)?.as_object());
    let pair = |(key, value): (&String, &Value)| (key.clone(), value.as_str().map(str::to_owned));
    object.into_iter().flatten().map(pair).collect()
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hash(directory: &str) -> String {
    let bytes = digest(&SHA256, directory.as_bytes());
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::providers::{FileId, Stamp};

    /// Of `/work/app`.
    const HASH: &str = "70467eff2e0a236497f0693901c782c674520c598f57e72b22e636e00311bd81";

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        (folder, home)
    }

    fn write(home: &Home, name: &str, text: &str) -> String {
        let path = home.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn directory_of_an_old_folder_is_found_among_the_known() {
        for (name, text) in [
            ("projects.json", r#"{"projects":{"/work/app":"app"}}"#),
            ("trustedFolders.json", r#"{"/work/app":"TRUST_FOLDER"}"#),
            ("tmp/app-2/.project_root", "/work/app\n"),
        ] {
            let (_folder, home) = home();
            assert_eq!(Directories::of(&home).of_folder(HASH), None);
            write(&home, name, text);
            assert_eq!(
                Directories::of(&home).of_folder(HASH).as_deref(),
                Some("/work/app"),
                "{name}"
            );
        }
        assert!(is_of(HASH, "/work/app") && !is_of(HASH, "/work") && !is_of("app", "/work/app"));
    }

    #[test]
    fn chat_that_was_copied_supersedes_the_old_one() {
        let (_folder, home) = home();
        write(&home, "tmp/app/.project_root", "/work/app");
        let names = [
            format!("tmp/{HASH}/chats/session-1-aaaaaaaa.json"),
            "tmp/app/chats/session-1-aaaaaaaa.json".to_owned(),
            "tmp/app/chats/session-1-aaaaaaaa.jsonl".to_owned(),
            format!("tmp/{HASH}/chats/session-2-aaaaaaaa.json"),
            "tmp/other/chats/session-2-aaaaaaaa.json".to_owned(),
        ];
        let listed = |name: &String| Listed {
            location: write(&home, name, "{}"),
            stamp: Stamp::default(),
            file: FileId::default(),
        };
        let mut found: Vec<_> = names.iter().map(listed).collect();
        let all = found.clone();
        drop_superseded(&home, &mut found);
        assert_eq!(found, all[2..]);
        let of = |at: usize| {
            Directories::of(&home).old_folder("/work/app", Path::new(&all[at].location))
        };
        assert_eq!((of(2).as_deref(), of(0)), (Some(HASH), None));
    }
}
