//! Sessions as callers see and change them: list, show, check, keys, trash, tags, cleanup.
//!
//! Knows discovery (a lookup may sweep) and writers (live state); knows nothing of how a session is
//! started or sent to.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;

use sessd_proto::session::{ListRequest, SessionPage, ShowRequest, Sort};
use sessd_proto::{Fault, Kind, Session};

use crate::config::Config;
use crate::registry::discovery::Discovery;
use crate::registry::homes::Homes;
use crate::registry::writers::Writers;
use crate::store::sessions::Stored;
use crate::store::{Store, page};

mod check;
pub(crate) mod cleanup;
mod edit;
mod keys;
mod resolve;

/// Reads and changes sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: Arc<Store>,
    config: Arc<Config>,
    /// The folder with the registry's files.
    state: PathBuf,
    homes: Arc<Homes>,
    writers: Arc<Writers>,
    discovery: Arc<Discovery>,
    /// Held during a cleanup: two at a time would plan the same steps.
    cleaning: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// Creates the floor over those below it; `state` is the folder with the registry's files.
    pub(crate) fn new(
        store: Arc<Store>,
        config: Arc<Config>,
        state: PathBuf,
        homes: Arc<Homes>,
        writers: Arc<Writers>,
        discovery: Arc<Discovery>,
    ) -> Arc<Self> {
        let cleaning = tokio::sync::Mutex::default();
        Arc::new(Self { store, config, state, homes, writers, discovery, cleaning })
    }

    /// Returns a page of sessions.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid limit or cursor, or if the registry cannot be read.
    pub(crate) async fn list(self: &Arc<Self>, request: ListRequest) -> Result<SessionPage, Fault> {
        let has_swept = self.discovery.wait_for_first_sweep().await;
        let discovering = !(has_swept && self.discovery.find_homes(&request.environment).await?);
        let project = match &request.project {
            Some(dir) => Some(self.homes.directories.project_of(dir).await?),
            None => None,
        };
        let request = ListRequest { project, ..request };
        let (found, next) = if request.busy {
            (self.list_busy(&request).await?, None)
        } else {
            self.store.read(move |c| page::list(c, &request)).await?
        };
        let sessions = self.writers.with_live(found).await?;
        let unreadable = self.homes.unreadable().await?;
        Ok(SessionPage { sessions, next, discovering, unreadable })
    }

    /// Returns one session.
    ///
    /// # Errors
    /// Fails with `not_found` or `ambiguous`, or if the registry cannot be read.
    pub(crate) async fn show(self: &Arc<Self>, request: ShowRequest) -> Result<Session, Fault> {
        let row = self.resolve(&request.selector).await?;
        let mut sessions = self.writers.with_live(vec![row]).await?;
        sessions.pop().ok_or_else(|| Fault::internal("a session vanished while it was shown"))
    }

    /// Returns the sessions that a process has open now and that match the other filters.
    async fn list_busy(self: &Arc<Self>, request: &ListRequest) -> Result<Vec<Stored>, Fault> {
        let mut found = self.writers.running().await?;
        found.retain(|row| matches(&row.session, request));
        match request.sort {
            Sort::Activity => found.sort_by_key(|row| Reverse(row.session.last_activity)),
            Sort::Created => found.sort_by_key(|row| Reverse(row.session.created_at)),
            Sort::Expires => found.sort_by_key(|row| {
                let at = row.session.expires_at;
                (at.is_none(), at)
            }),
        }
        let limit = page::limit(request.limit)? as usize;
        found.truncate(limit);
        Ok(found)
    }
}

/// True if a session matches the filters of a list.
fn matches(session: &Session, request: &ListRequest) -> bool {
    let same = |asked: &Option<String>, value: &str| asked.as_deref().is_none_or(|a| a == value);
    same(&request.project, &session.project)
        && same(&request.provider, &session.provider)
        && same(&request.agent, &session.agent)
        && request.status.is_none_or(|status| status == session.status)
        && request.kind.map_or(session.kind != Kind::Subagent, |kind| kind == session.kind)
        && request.tag.as_ref().is_none_or(|tag| session.tags.contains(tag))
        && request.since.is_none_or(|since| session.last_activity >= since)
        && session.trashed_at.is_some() == request.trash
}
