//! Sessions: listing them, showing one, finding the one that a selector means.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sessd_proto::session::{ListRequest, SessionPage, ShowRequest, Sort};
use sessd_proto::{Fault, FaultCode, Kind, Session, Status};

use super::patience::LOOK;
use super::{Registry, keys};
use crate::store::sessions::{self as rows, Stored};
use crate::store::{page, selector};

/// The longest selector that is looked up, in bytes.
const SELECTOR_BYTES_MAX: usize = 512;

impl Registry {
    /// A page of sessions.
    ///
    /// # Errors
    /// For a limit or a cursor that makes no sense, and those of the store.
    pub async fn list(self: &Arc<Self>, request: ListRequest) -> Result<SessionPage, Fault> {
        let discovering = !self.first_sweep().await;
        let project = match &request.project {
            Some(dir) => Some(self.project_of(dir).await?),
            None => None,
        };
        let request = ListRequest { project, ..request };
        let (found, next) = if request.busy {
            (self.busy(&request).await?, None)
        } else {
            self.store.read(move |c| page::list(c, &request)).await?
        };
        Ok(SessionPage { sessions: self.with_live(found).await?, next, discovering })
    }

    /// One session.
    ///
    /// # Errors
    /// When the selector means nothing or too much.
    pub async fn show(self: &Arc<Self>, request: ShowRequest) -> Result<Session, Fault> {
        let row = self.resolve(&request.selector).await?;
        let mut sessions = self.with_live(vec![row]).await?;
        sessions.pop().ok_or_else(|| Fault::internal("a session vanished while it was shown"))
    }

    /// The one session that a selector means. What is not found is looked for on disk before
    /// we say so.
    pub(super) async fn resolve(self: &Arc<Self>, selector: &str) -> Result<Stored, Fault> {
        check_selector(selector)?;
        let mut found = self.lookup(selector).await?;
        if found.is_empty() && !selector.starts_with('@') {
            let swept = self.sweep().await;
            found = self.lookup(selector).await?;
            if found.is_empty() {
                swept?;
            }
        }
        match found.len() {
            0 => Err(not_found(selector)),
            1 => Ok(found.swap_remove(0)),
            _ => Err(ambiguous(selector, &found)),
        }
    }

    pub(super) async fn lookup(&self, text: &str) -> Result<Vec<Stored>, Fault> {
        let text = text.to_owned();
        let found =
            self.store.read(move |c| rows::by_seqs(c, selector::resolve(c, &text)?)).await?;
        Ok(found)
    }

    /// The newest session of a directory's project that can be resumed.
    pub(super) async fn newest_resumable(self: &Arc<Self>, dir: &str) -> Result<Stored, Fault> {
        let swept = self.sweep().await;
        let project = self.project_of(dir).await?;
        let mut request = ListRequest { project: Some(project.clone()), ..Default::default() };
        loop {
            let asked = request.clone();
            let (found, next) = self.store.read(move |c| page::list(c, &asked)).await?;
            // The sweep has just looked for all that were gone.
            let there = |row: &Stored| row.session.status != Status::Expired;
            for row in found.into_iter().filter(there) {
                let row = self.check_row(row, false).await?;
                if row.session.status == Status::Active {
                    return Ok(row);
                }
            }
            if next.is_none() {
                swept?;
                let what = format!("no session of {project} can be resumed");
                return Err(Fault::new(FaultCode::NotFound, what)
                    .hint("all sessions and why not: `sessctl list`"));
            }
            request.after = next;
        }
    }

    /// The project of a caller's directory, which may be on a disk that does not answer.
    pub(super) async fn project_of(&self, dir: &str) -> Result<String, Fault> {
        let path = dir.to_owned();
        let look = move || project_root(&path);
        let project = self.elsewhere.pass(Path::new(dir), LOOK, look).await?;
        project.map_err(|_| disk_hangs(dir))
    }

    pub(super) async fn stored(&self, seq: i64) -> Result<Stored, Fault> {
        let row = self.store.read(move |c| rows::by_seq(c, seq)).await?;
        row.ok_or_else(|| Fault::new(FaultCode::NotFound, "the session was deleted meanwhile"))
    }

    /// The sessions that somebody runs now and that the other filters want.
    async fn busy(self: &Arc<Self>, request: &ListRequest) -> Result<Vec<Stored>, Fault> {
        let mut found = self.running().await?;
        found.retain(|row| wanted(&row.session, request));
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

fn wanted(session: &Session, request: &ListRequest) -> bool {
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

/// The git top level above a directory, else the directory itself.
#[must_use]
pub fn project_root(dir: &str) -> String {
    let dir = PathBuf::from(dir);
    let real = dir.canonicalize().unwrap_or(dir);
    let top = real.ancestors().find(|ancestor| ancestor.join(".git").exists());
    top.unwrap_or(&real).to_string_lossy().into_owned()
}

fn check_selector(selector: &str) -> Result<(), Fault> {
    let usage = |what: String| {
        Err(Fault::new(FaultCode::Usage, what)
            .hint("ids are in the first column of `sessctl list`"))
    };
    if selector.is_empty() {
        usage("an empty selector means no session".to_owned())
    } else if selector.len() > SELECTOR_BYTES_MAX {
        usage(format!("a selector of {} bytes is no id", selector.len()))
    } else if selector.chars().any(char::is_control) {
        usage("a selector with control characters is no id".to_owned())
    } else {
        Ok(())
    }
}

fn not_found(selector: &str) -> Fault {
    if selector.starts_with('@') {
        return keys::unknown(selector).hint(format!(
            "begin one: `sessctl send {selector} --agent AGENT …`; all keys: `sessctl key list`"
        ));
    }
    if selector.chars().count() < selector::PREFIX_MIN {
        let what = format!("`{selector}` is too short: a prefix has at least 4 characters");
        return Fault::new(FaultCode::NotFound, what).hint("all sessions: `sessctl list`");
    }
    let hint = if Path::new(selector).is_absolute() {
        "sessions of a directory: `sessctl list --project DIR`"
    } else {
        "all sessions: `sessctl list`"
    };
    Fault::new(FaultCode::NotFound, format!("no session has an id that begins with `{selector}`"))
        .hint(hint)
}

fn ambiguous(selector: &str, found: &[Stored]) -> Fault {
    let line = |row: &Stored| {
        let Session { id, provider, project, title, .. } = &row.session;
        format!("\n  {id}  {provider}  {project}  {}", title.as_deref().unwrap_or("-"))
    };
    let candidates: String = found.iter().map(line).collect();
    Fault::new(
        FaultCode::Ambiguous,
        format!("`{selector}` means more than one session:{candidates}"),
    )
    .hint("type more of the id")
}
/// No deadline of a call: nothing was accepted that may go on.
pub(super) fn disk_hangs(dir: &str) -> Fault {
    let what = format!("the disk of {dir} does not answer");
    let fault = Fault::new(FaultCode::Environment, what)
        .hint("try another directory, or none: `sessctl list`");
    Fault { retryable: Some(true), ..fault }
}
