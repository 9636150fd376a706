//! Resolves a selector, a key or a directory to a session. It must not read a provider's store.

use std::path::Path;
use std::sync::Arc;

use sessd_proto::session::ListRequest;
use sessd_proto::{Fault, FaultCode, Session, Status};

use super::{Sessions, keys};
use crate::store::sessions::{self as rows, Stored};
use crate::store::{page, selector};

/// The longest selector that is looked up, in bytes.
const SELECTOR_BYTES_MAX: usize = 512;

impl Sessions {
    /// Returns the one session that a selector means. An id that is not in the registry is looked
    /// for on disk (a sweep of every home) before this fails.
    ///
    /// # Errors
    /// Fails with `usage` for text that cannot be a selector, with `not_found` if no session
    /// matches, with `ambiguous` if several do, or if the registry cannot be read.
    pub(crate) async fn resolve(self: &Arc<Self>, selector: &str) -> Result<Stored, Fault> {
        check_selector(selector)?;
        let mut found = self.lookup(selector).await?;
        if found.is_empty() && !selector.starts_with('@') {
            let swept = self.discovery.sweep().await;
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

    /// Returns all sessions that a selector matches in the registry.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn lookup(&self, text: &str) -> Result<Vec<Stored>, Fault> {
        let text = text.to_owned();
        let found =
            self.store.read(move |c| rows::by_seqs(c, selector::resolve(c, &text)?)).await?;
        Ok(found)
    }

    /// Returns the newest session of a directory's project that can be resumed.
    ///
    /// # Errors
    /// Fails with `not_found` if there is none, or if the directory's disk does not answer.
    pub(crate) async fn newest_resumable(self: &Arc<Self>, dir: &str) -> Result<Stored, Fault> {
        let swept = self.discovery.sweep().await;
        let project = self.homes.directories.project_of(dir).await?;
        let mut request = ListRequest { project: Some(project.clone()), ..Default::default() };
        loop {
            let asked = request.clone();
            let (found, next) = self.store.read(move |c| page::list(c, &asked)).await?;
            // The sweep has just looked for all expired ones.
            let there = |row: &Stored| row.session.status != Status::Expired;
            for row in found.into_iter().filter(there) {
                let row = self.discovery.check(row).await?;
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
}

fn check_selector(selector: &str) -> Result<(), Fault> {
    let usage = |what: String| {
        Err(Fault::new(FaultCode::Usage, what)
            .hint("ids are in the first column of `sessctl list`"))
    };
    if selector.is_empty() {
        usage("selector is empty".to_owned())
    } else if selector.len() > SELECTOR_BYTES_MAX {
        usage(format!("selector is too long: {} of {SELECTOR_BYTES_MAX} bytes", selector.len()))
    } else if selector.chars().any(char::is_control) {
        usage("selector contains control characters".to_owned())
    } else {
        Ok(())
    }
}

fn not_found(selector: &str) -> Fault {
    if selector.starts_with('@') {
        return keys::unknown(selector).hint(format!(
            "start one: `sessctl send {selector} --agent AGENT …`; all keys: `sessctl key list`"
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
