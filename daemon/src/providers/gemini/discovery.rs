//! Finding, reading and checking Gemini's chats.

use std::path::{Path, PathBuf};

use sessd_proto::{Facts, Kind, Reason, Timestamp};

use super::chat::Chat;
use super::directories::{self, Directories};
use super::groups::{self, Groups};
use super::{Gemini, settings};
use crate::providers::{
    Bound, Discovery, Found, Home, Listing, Reader, Retention, RetentionReader, Stamp, StubReader,
    TranscriptFinder, Unreadable, Verdict, file, listing, record,
};

/// The CLI leaves no trace of running.
impl Discovery for Gemini {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let slugs = listing::folders(&store(home));
        let chats = slugs.iter().map(|slug| slug.join("chats")).filter(|chats| chats.is_dir());
        chats.chain([store(home)]).collect()
    }

    fn list(&self, home: &Home) -> Result<Listing, Unreadable> {
        let mut found = Listing::default();
        for slug in listing::root(&store(home))? {
            if found.is_dir(&slug) {
                list_chats(&slug.path().join("chats"), &mut found);
            }
        }
        groups::join_stamps(&mut found.transcripts);
        directories::drop_superseded(home, &mut found.transcripts);
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        Chats::of(home).read(Path::new(location))
    }

    fn reader(&self, home: &Home) -> Option<Box<dyn Reader>> {
        Some(Box::new(Chats::of(home)))
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        Chats::of(home).check(bound)
    }

    fn retention(&self) -> Option<RetentionReader> {
        Some(retention)
    }

    fn stubs(&self) -> Option<StubReader> {
        Some(groups::stubs)
    }

    /// A file in the old format is one record, and no turn is appended to it.
    fn appends_to(&self) -> Option<TranscriptFinder> {
        Some(|home, bound| {
            // Only a transcript that has moved needs to be looked for, which reads all of them.
            let known = PathBuf::from(&bound.location);
            let path = if known.is_file() { known } else { locate(home, bound).ok()??.0 };
            (path.extension()? == "jsonl").then_some(path)
        })
    }

    fn is_of_directory(&self) -> Option<fn(&str, &str) -> bool> {
        Some(directories::is_of)
    }
}

fn retention(home: &Home) -> Option<Retention> {
    settings::retention(&home.path.join("settings.json"))
}

/// Reads chats of a home, and everything beside them once.
struct Chats {
    home: Home,
    directories: Directories,
    groups: Groups,
    /// True if the CLI deletes anything.
    deletes: bool,
}

impl Reader for Chats {
    fn read_all(&self, locations: &[&str]) -> Vec<Option<Found>> {
        locations.iter().map(|location| self.read(Path::new(location))).collect()
    }

    fn check(&self, bound: &Bound) -> Verdict {
        match locate(&self.home, bound) {
            Ok(Some((path, chat))) => self.judge(&path, &chat),
            Ok(None) if is_unreadable(Path::new(&bound.location)) => Verdict::UNREADABLE,
            Ok(None) => Verdict::of_missing(Gemini.list(&self.home), &bound.location),
            Err(error) => error.into(),
        }
    }
}

impl Chats {
    fn of(home: &Home) -> Self {
        Self {
            home: home.clone(),
            directories: Directories::of(home),
            groups: Groups::default(),
            deletes: retention(home).is_some(),
        }
    }

    fn read(&self, path: &Path) -> Option<Found> {
        // Resuming writes a file beside the chat, with its id and only the context of the start.
        let chat = Chat::read(path).ok().filter(Chat::has_content)?;
        let scope = directories::scope(&self.home, path)?.to_owned();
        let modified = Stamp::of(&file::open(path).ok()?.1).mtime_ns;
        let created_at = chat.start_time.unwrap_or(Timestamp::from_ns(modified));
        let verdict = self.judge(path, &chat);
        let launch_dir = self.directories.of_folder(&scope).unwrap_or_default();
        let title = chat.summary.as_deref().and_then(record::title);
        let earlier_scope = self.directories.old_folder(&launch_dir, path);
        let facts = Facts {
            kind: if chat.is_subagent { Kind::Subagent } else { Kind::Interactive },
            cwd: (!launch_dir.is_empty()).then(|| launch_dir.clone()),
            launch_dir,
            title: title.or_else(|| chat.prompt()),
            last_prompt: chat.last_prompt(),
            model: chat.model().and_then(record::title),
            git_branch: None,
            created_at,
            last_activity: chat.last_updated.or(chat.last_message()).unwrap_or(created_at),
            provider_session_id: chat.session_id?,
            scope,
        };
        Some(Found { facts, parent: parent_of(path), verdict, earlier_scope, moved: None })
    }

    /// Applies the rules by which the CLI lists what can be resumed, and deletes.
    fn judge(&self, path: &Path, chat: &Chat) -> Verdict {
        match judge(chat) {
            Verdict::ACTIVE if self.deletes && self.groups.are_fatal_to(path) => {
                Verdict::of(Reason::DeletedAtNextStart)
            }
            verdict => verdict,
        }
    }
}

fn store(home: &Home) -> PathBuf {
    home.path.join("tmp")
}

/// Adds `session-*` and the chats of their subagents, in a folder named by the session's id.
fn list_chats(chats: &Path, found: &mut Listing) {
    for entry in found.entries(chats) {
        let name = entry.name();
        if name.starts_with("session-") && is_chat(&name) {
            found.add(&entry);
        } else if found.is_dir(&entry) {
            let subagents = found.entries(&entry.path());
            found.walk(subagents, 0, is_chat);
        }
    }
    // A chat is known by its id and not by its name: any of them may be in any file.
    found.widen_gaps(chats, chats);
}

fn is_chat(name: &str) -> bool {
    name.ends_with(".jsonl") || name.ends_with(".json")
}

/// Returns the chat whose subagent wrote this one: the folder, unless it is `chats` itself.
fn parent_of(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?.to_str()?;
    (folder != "chats").then(|| folder.to_owned())
}

/// Returns the chat of a session: in its file, or in any other file of its slug with its id, since
/// the CLI goes by the id and renames files.
fn locate(home: &Home, bound: &Bound) -> Result<Option<(PathBuf, Chat)>, Unreadable> {
    let is_it = |chat: &Chat| chat.session_id.as_deref() == Some(&bound.provider_session_id);
    // A known file that has lost its id is still that session's file.
    let known = Chat::read(Path::new(&bound.location)).ok();
    if let Some(chat) = known.filter(|chat| is_it(chat) || chat.session_id.is_none()) {
        return Ok(Some((PathBuf::from(&bound.location), chat)));
    }
    let scope = store(home).join(&bound.scope);
    let listed = Gemini.list(home)?.transcripts;
    let paths = listed.into_iter().map(|listed| PathBuf::from(listed.location));
    let chats = paths.filter(|path| path.starts_with(&scope)).filter_map(|path| {
        let chat = Chat::read(&path).ok().filter(&is_it)?;
        Some((path, chat))
    });
    // Resuming leaves files with the same id beside the real one.
    Ok(chats.max_by_key(|(_, chat)| chat.has_content()))
}

/// True for a file that is there, and cannot be read or is too large.
fn is_unreadable(path: &Path) -> bool {
    path.is_file() && Chat::read(path).is_err()
}

/// Applies the rules by which the CLI lists what can be resumed.
fn judge(chat: &Chat) -> Verdict {
    if !chat.has_header {
        return Verdict::of(Reason::HeaderMissing);
    }
    if chat.is_subagent {
        return Verdict::SUBAGENT;
    }
    if chat.has_content() { Verdict::ACTIVE } else { Verdict::EMPTY }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn chat_without_its_header_is_invalid_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let chats = folder.path().join("tmp/app/chats");
        let path = chats.join("session-1.jsonl");
        fs::create_dir_all(&chats).unwrap();
        let location = path.to_str().unwrap().to_owned();
        let bound = Bound {
            provider_session_id: "s".to_owned(),
            scope: "app".to_owned(),
            location,
            launch_dir: "/".to_owned(),
            real_dir: None,
        };
        let gone = Verdict::of(Reason::TranscriptMissing);
        assert_eq!(Gemini.check(&home, &bound), gone);
        for (text, reason) in [
            (r#"{"id":"1","type":"user","content":"hi"}"#, Reason::HeaderMissing),
            ("all garbage", Reason::HeaderMissing),
            ("", Reason::HeaderMissing),
            (r#"{"sessionId":"s","projectHash":"h"}"#, Reason::EmptyTranscript),
        ] {
            fs::write(&path, text).unwrap();
            let verdict = Verdict::of(reason);
            assert_eq!(Gemini.check(&home, &bound), verdict, "{text}");
        }
    }
}
