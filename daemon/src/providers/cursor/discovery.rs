//! Finding, reading and checking Cursor's chats.

use std::path::{Path, PathBuf};

use sessd_proto::{Facts, Kind, Reason, Timestamp};

use super::store::{Chat, Described};
use super::{Cursor, live};
use crate::providers::{
    Bound, Discovery, Found, Home, Listed, LiveReader, Stamp, Unreadable, Verdict, listing, record,
};

/// The file name of every chat's store.
const STORE: &str = "store.db";

/// Chats are said to vanish, but no rule is known: there is no retention to predict.
impl Discovery for Cursor {
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let chats = chats(home);
        let workspaces = listing::folders(&chats);
        let folders: Vec<_> = workspaces.iter().flat_map(|it| listing::folders(it)).collect();
        [chats].into_iter().chain(workspaces).chain(folders).collect()
    }

    fn list(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut found = Vec::new();
        listing::walk(listing::root(&chats(home))?, 2, |name| name == STORE, &mut found)?;
        Ok(found)
    }

    fn read(&self, _home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        let chat = Chat::read(path).ok()?;
        let described = Described::of(path);
        if !chat.has_prompt && !described.has_conversation {
            return None;
        }
        let modified = Stamp::of(&path.metadata().ok()?).mtime_ns;
        let created_at = chat.created_at.or(described.created_at);
        let launch_dir = described.cwd.clone().or(chat.workspace.clone()).unwrap_or_default();
        let title = described.title.as_deref().or(chat.name()).and_then(record::title);
        let facts = Facts {
            provider_session_id: id_of(path)?,
            scope: chat.scope(),
            kind: if described.is_subagent { Kind::Subagent } else { Kind::Interactive },
            cwd: (!launch_dir.is_empty()).then(|| launch_dir.clone()),
            launch_dir,
            title: title.or_else(|| record::title(chat.prompt.as_deref()?)),
            model: chat.model.clone(),
            git_branch: None,
            created_at: created_at.map_or(Timestamp::from_ns(modified), Timestamp),
            last_activity: described.updated_at.map_or(Timestamp::from_ns(modified), Timestamp),
        };
        Some(Found { facts, verdict: judge(&chat, &described), ..Found::default() })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = match locate(home, bound) {
            Ok(Some(path)) => path,
            Ok(None) => return Verdict::EXPIRED,
            Err(error) => return error.into(),
        };
        match Chat::read(&path) {
            Ok(chat) if is_another(&chat, bound) => Verdict::of(Reason::BegunAnew),
            Ok(chat) => judge(&chat, &Described::of(&path)),
            Err(_) => Verdict::UNREADABLE,
        }
    }

    fn was_replaced(&self, home: &Home, bound: &Bound) -> bool {
        match locate(home, bound) {
            Ok(Some(path)) => Chat::read(&path).is_ok_and(|chat| is_another(&chat, bound)),
            _ => false,
        }
    }

    fn live(&self) -> Option<LiveReader> {
        Some(|home| live::read(&Cursor.list(home).ok()?))
    }
}

fn chats(home: &Home) -> PathBuf {
    home.path.join("chats")
}

/// Returns the id of a chat: the name of its folder.
pub(super) fn id_of(store: &Path) -> Option<String> {
    Some(store.parent()?.file_name()?.to_str()?.to_owned())
}

/// Returns the store where it was last seen, else one of the same id in any workspace: preferably
/// of the same chat.
fn locate(home: &Home, bound: &Bound) -> Result<Option<PathBuf>, Unreadable> {
    let known = PathBuf::from(&bound.location);
    if known.is_file() {
        return Ok(Some(known));
    }
    let listed = Cursor.list(home)?;
    let stores = listed.into_iter().map(|entry| PathBuf::from(entry.location));
    let same = stores.filter(|path| id_of(path).as_ref() == Some(&bound.provider_session_id));
    Ok(same.max_by_key(|path| Chat::read(path).is_ok_and(|chat| !is_another(&chat, bound))))
}

/// True if the chat is another one under the same id. A session that has just started has no scope
/// yet, and a damaged store no longer has one.
fn is_another(chat: &Chat, bound: &Bound) -> bool {
    !bound.scope.is_empty() && chat.created_at.is_some() && chat.scope() != bound.scope
}

fn judge(chat: &Chat, described: &Described) -> Verdict {
    if described.is_subagent {
        return Verdict::SUBAGENT;
    }
    // Unreadable leaves may be encrypted; then only the description shows that there is content.
    match chat.has_root && (chat.has_prompt || described.has_conversation) {
        true => Verdict::ACTIVE,
        false => Verdict::EMPTY,
    }
}
