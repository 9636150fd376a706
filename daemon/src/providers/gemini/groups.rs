//! Files that the CLI deletes together: those of a folder whose names end alike.
//!
//! At each start in a directory the CLI deletes every chat that it cannot read, that has no
//! message or that is too old; and with it all files of that folder whose names end in the same
//! eight letters and digits, the start of the session's id. A resume in a later minute than the
//! session's first leaves such a file: a *stub*, with the same id and without a message. The next
//! start of any other session then deletes the stub and the real chat. An id with `_` among its
//! first eight characters is immune, since the CLI finds no ending in the names of its files.
//! Knows no registry; writes nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::chat::Chat;
use crate::providers::{Bound, Home, Listed, listing};

/// The number of characters of an id that are in the names of its files.
const SHORT_ID_CHARS: usize = 8;

/// Makes an id immune by replacing the last of the characters that are in the names of its files.
pub(super) fn immune_id(id: &str) -> String {
    let mut immune = id.to_owned();
    if id.is_char_boundary(SHORT_ID_CHARS - 1) && id.is_char_boundary(SHORT_ID_CHARS) {
        immune.replace_range(SHORT_ID_CHARS - 1..SHORT_ID_CHARS, "_");
    }
    immune
}

/// Returns the ending by which the CLI groups a file; `None` if it deletes the file alone.
fn ending(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json"))?;
    let (_, ending) = stem.strip_prefix("session-")?.rsplit_once('-')?;
    let is_short_id =
        ending.len() == SHORT_ID_CHARS && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_short_id.then_some(ending)
}

/// Folders and the groups of files in them, each folder and each file read once.
#[derive(Default)]
pub(super) struct Groups {
    folders: Mutex<HashMap<PathBuf, HashMap<String, Group>>>,
}

/// The files of a folder whose names end alike.
struct Group {
    files: Vec<PathBuf>,
    /// Those that the CLI deletes; `None` if they were not read yet.
    deleted: Option<Vec<PathBuf>>,
}

impl Groups {
    /// True if the CLI deletes this chat at its next start, since it deletes another file of its
    /// group.
    pub(super) fn are_fatal_to(&self, path: &Path) -> bool {
        let (Some(folder), Some(ending)) = (path.parent(), ending(path)) else { return false };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = folders.entry(folder.to_owned()).or_insert_with(|| {
            let groups = groups_of(folder).into_iter();
            groups.map(|(name, files)| (name, Group { files, deleted: None })).collect()
        });
        let group = groups.get_mut(ending).filter(|group| group.files.len() > 1);
        group.is_some_and(|group| group.deleted().iter().any(|other| other != path))
    }
}

impl Group {
    fn deleted(&mut self) -> &[PathBuf] {
        self.deleted.get_or_insert_with(|| {
            let is_deleted = |file: &&PathBuf| match Chat::read(file) {
                Ok(chat) => !chat.has_header || chat.is_subagent || !chat.has_content(),
                Err(_) => file.exists(),
            };
            self.files.iter().filter(is_deleted).cloned().collect()
        })
    }
}

fn groups_of(folder: &Path) -> HashMap<String, Vec<PathBuf>> {
    let mut groups = HashMap::<String, Vec<PathBuf>>::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(ending) = ending(&path).map(str::to_owned) {
            groups.entry(ending).or_default().push(path);
        }
    }
    groups
}

/// True if any chat of a home is in a group with another file.
pub(super) fn are_in(home: &Home) -> bool {
    let mut folders = listing::folders(&home.path.join("tmp")).into_iter();
    folders.any(|slug| groups_of(&slug.join("chats")).values().any(|group| group.len() > 1))
}

/// Makes the stamp of each file depend on its whole group: a chat has to be read again when a file
/// beside it comes or goes.
pub(super) fn join_stamps(found: &mut [Listed]) {
    let mut groups = HashMap::<(PathBuf, String), Vec<usize>>::new();
    for (index, listed) in found.iter().enumerate() {
        let path = Path::new(&listed.location);
        if let (Some(folder), Some(ending)) = (path.parent(), ending(path)) {
            groups.entry((folder.to_owned(), ending.to_owned())).or_default().push(index);
        }
    }
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let mut members: Vec<_> = group.iter().map(|index| &found[*index]).collect();
        members.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        let mut hasher = DefaultHasher::new();
        for Listed { location, stamp, .. } in members {
            (location, stamp.size, stamp.mtime_ns, stamp.inode).hash(&mut hasher);
        }
        // The registry stores it as a signed number.
        let hash = hasher.finish() >> 1;
        group.iter().for_each(|index| found[*index].stamp.size = hash);
    }
}

/// Returns the stubs of a session: files that never had a message, beside one with the same full
/// id that has some. A file without a message but without such a twin may be a session that has
/// just begun.
pub(super) fn stubs(home: &Home, bound: &Bound) -> Vec<PathBuf> {
    let known = Path::new(&bound.location).parent().filter(|_| !bound.location.is_empty());
    let scope = || home.path.join("tmp").join(&bound.scope).join("chats");
    let folder = known.map_or_else(scope, Path::to_owned);
    let short: String = bound.provider_session_id.chars().take(SHORT_ID_CHARS).collect();
    let named = groups_of(&folder).remove(&short).unwrap_or_default();
    if named.len() < 2 {
        return Vec::new();
    }
    let own = |path: PathBuf| {
        let chat = Chat::read(&path).ok()?;
        let is_own = chat.session_id.as_deref() == Some(&*bound.provider_session_id);
        (is_own && chat.has_header).then_some((path, chat))
    };
    let own: Vec<_> = named.into_iter().filter_map(own).collect();
    if !own.iter().any(|(_, chat)| chat.has_content()) {
        return Vec::new();
    }
    own.into_iter().filter(|(_, chat)| !chat.had_message).map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{FileId, Stamp};

    const ID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    fn header(id: &str) -> String {
        format!(r#"{{"sessionId":"{id}","projectHash":"h","kind":"main"}}"#) + "\n"
    }

    fn talk(id: &str) -> String {
        header(id) + r#"{"id":"1","type":"user","content":"hi"}"# + "\n"
    }

    /// Writes files into a folder of chats and returns it with the path of the first.
    fn chats(files: &[(&str, String)]) -> (tempfile::TempDir, Home, Bound) {
        let folder = tempfile::tempdir().unwrap();
        let chats = folder.path().join("tmp/app/chats");
        fs::create_dir_all(&chats).unwrap();
        for (name, text) in files {
            fs::write(chats.join(name), text).unwrap();
        }
        let location = chats.join(files[0].0).to_str().unwrap().to_owned();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let bound = Bound { provider_session_id: ID.to_owned(), location, ..Bound::default() };
        (folder, home, bound)
    }

    #[test]
    fn immune_id_is_in_no_group_and_keeps_its_length() {
        let immune = immune_id(ID);
        assert_eq!(immune, "aaaaaaa_-0000-4000-8000-000000000001");
        let name = |id: &str| PathBuf::from(format!("session-2026-01-01T00-00-{}.jsonl", &id[..8]));
        assert_eq!(ending(&name(ID)), Some("aaaaaaaa"));
        assert_eq!(ending(&name(&immune)), None);
        assert_eq!(ending(Path::new("checkpoint-aaaaaaaa.json")), None);
    }

    #[test]
    fn only_stubs_with_a_twin_of_the_same_full_id_are_named() {
        let context = r#"{"$set":{"messages":[{"id":"0","type":"user","content":
            [{"text":"<session_context>x"}]}]}}"#
            .replace('\n', "");
        let other = ID.replace("01", "02");
        let undone = talk(ID) + r#"{"$rewindTo":"1"}"#;
        let all = [
            ("session-1-aaaaaaaa.jsonl", talk(ID)),
            ("session-2-aaaaaaaa.jsonl", header(ID)),
            ("session-3-aaaaaaaa.jsonl", header(ID) + &context),
            ("session-4-aaaaaaaa.jsonl", header(&other)),
            ("session-5-aaaaaaaa.jsonl", "garbage".to_owned()),
            ("session-6-aaaaaaaa.jsonl", undone),
            ("session-7-aaaaaaab.jsonl", header(ID)),
        ];
        let (_folder, home, bound) = chats(&all);
        let mut named: Vec<_> = stubs(&home, &bound);
        named.sort();
        let names: Vec<_> = named.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["session-2-aaaaaaaa.jsonl", "session-3-aaaaaaaa.jsonl"]);
        // Without the real one, a stub may be a session that has just begun.
        fs::remove_file(&bound.location).unwrap();
        assert_eq!(stubs(&home, &bound), Vec::<PathBuf>::new());
    }

    #[test]
    fn chat_is_in_danger_only_beside_a_file_of_its_group() {
        let real = || ("session-1-aaaaaaaa.jsonl", talk(ID));
        for (other, text, is_fatal) in [
            ("session-2-aaaaaaaa.jsonl", header(ID), true),
            ("session-2-aaaaaaaa.json", "garbage".to_owned(), true),
            ("session-2-aaaaaaaa.jsonl", talk("aaaaaaaa-1"), false),
            ("session-2-aaaaaaab.jsonl", header(ID), false),
            ("other-2-aaaaaaaa.jsonl", header(ID), false),
        ] {
            let (_folder, _, bound) = chats(&[real(), (other, text)]);
            let location = Path::new(&bound.location);
            assert_eq!(Groups::default().are_fatal_to(location), is_fatal, "{other}");
        }
    }

    #[test]
    fn stamp_of_a_chat_changes_with_its_group() {
        let listed = |name: &str, size| Listed {
            location: format!("/chats/session-{name}.jsonl"),
            stamp: Stamp { size, mtime_ns: 1, inode: 1 },
            file: FileId::default(),
        };
        let joined = |mut found: Vec<Listed>| {
            join_stamps(&mut found);
            found[0].stamp
        };
        let alone = || listed("1-aaaaaaaa", 1);
        assert_eq!(joined(vec![alone(), listed("1-bbbbbbbb", 1)]), alone().stamp);
        let with = |size| joined(vec![alone(), listed("2-aaaaaaaa", size)]);
        assert!(with(1) != alone().stamp && with(1) != with(2) && with(1) == with(1));
    }
}
