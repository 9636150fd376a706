//! Checks: whether sessions can be resumed. Free, and never more certain than what was seen.

use std::path::Path;
use std::sync::Arc;

use sessd_proto::session::{CheckRequest, ListRequest, SessionPage};
use sessd_proto::{Fault, Status};

use super::homes::{KnownHome, Trouble};
use super::{Registry, blocking};
use crate::clock::now;
use crate::providers::{Bound, Verdict};
use crate::store::sessions::{self, Checked, Outcome, Stored};
use crate::store::{events, page};

/// How often a check is made when the session changes under it.
const ATTEMPTS: usize = 3;

impl Registry {
    /// Checks the sessions that were asked for, or a page of all.
    ///
    /// # Errors
    /// When a selector means nothing or too much, and those of the store.
    pub async fn check(self: &Arc<Self>, request: CheckRequest) -> Result<SessionPage, Fault> {
        let (rows, next) = if request.selectors.is_empty() {
            let list =
                ListRequest { limit: request.limit, after: request.after, ..Default::default() };
            self.store.read(move |c| page::list(c, &list)).await?
        } else {
            let mut rows = Vec::new();
            for selector in &request.selectors {
                rows.push(self.resolve(selector).await?);
            }
            (rows, None)
        };
        let mut checked = Vec::with_capacity(rows.len());
        for row in rows {
            checked.push(self.check_row(row, request.accept_losses).await?);
        }
        let sessions = self.with_live(checked).await?;
        Ok(SessionPage { sessions, next, discovering: !self.has_swept() })
    }

    /// Checks the sessions whose check is oldest; answers how many, and how many changed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn check_oldest(self: &Arc<Self>) -> Result<(usize, usize), Fault> {
        let options = self.config.heartbeat.clone();
        let before = now().plus_ms(-1000 * i64::from(options.fresh_s)).0;
        let rows = self
            .store
            .read_slowly(move |c| {
                let seqs = sessions::oldest_checks(c, before, options.batch)?;
                let rows = seqs.into_iter().map(|seq| sessions::by_seq(c, seq));
                rows.filter_map(Result::transpose).collect::<crate::store::Result<Vec<_>>>()
            })
            .await?;
        let (checked, mut changed) = (rows.len(), 0);
        for row in rows {
            let before = row.session.status;
            changed += usize::from(self.check_row(row, false).await?.session.status != before);
        }
        Ok((checked, changed))
    }

    /// Checks one session and answers it as it is then.
    pub(super) async fn check_row(
        self: &Arc<Self>,
        row: Stored,
        accept_losses: bool,
    ) -> Result<Stored, Fault> {
        let Some(known) = self.home_of(&row).await? else { return Ok(row) };
        let seq = row.seq;
        let mut row = row;
        for _ in 0..ATTEMPTS {
            let mut verdict = self.ask(&known, &row).await?;
            if verdict.status == Status::Expired && row.session.status != Status::Expired {
                // It is looked for in its whole home first: it may have moved, or the home may
                // be in doubt.
                self.sweep_home(&known).await?;
                row = self.stored(seq).await?;
                verdict = self.ask(&known, &row).await?;
                let held = matches!(self.home_trouble(known.id), Some(Trouble::Held { .. }));
                if verdict.status == Status::Expired && held && !accept_losses {
                    verdict = Verdict::new(Status::Unknown, "home_held");
                }
            }
            let stored = self.keep(&row, verdict).await?;
            row = self.stored(seq).await?;
            if stored {
                break;
            }
        }
        Ok(row)
    }

    pub(super) async fn home_of(&self, row: &Stored) -> Result<Option<KnownHome>, Fault> {
        let id = row.home_id;
        Ok(self.known_homes().await?.into_iter().find(|known| known.id == id))
    }

    /// Asks the provider about a session.
    pub(super) async fn ask(&self, known: &KnownHome, row: &Stored) -> Result<Verdict, Fault> {
        let (known, bound) = (known.clone(), bound(row));
        let launch_dir = row.session.launch_dir.clone();
        blocking(move || with_directory(known.provider.check(&known.home, &bound), &launch_dir))
            .await
    }

    /// Stores a verdict; `false` if the session was changed meanwhile.
    pub(super) async fn keep(&self, row: &Stored, verdict: Verdict) -> Result<bool, Fault> {
        let checked = Checked {
            seq: row.seq,
            revision: row.session.revision,
            status: verdict.status,
            reason: verdict.reason.map(str::to_owned),
            at: now(),
        };
        let id = row.session.id.clone();
        let stored = self.store.write(move |tx| {
            let from = match sessions::set_checked(tx, &checked)? {
                Outcome::Raced => return Ok(false),
                Outcome::Confirmed => return Ok(true),
                Outcome::Changed(from) => from,
            };
            let data = serde_json::json!({
                "from": from, "to": checked.status, "reason": checked.reason,
            });
            events::append(tx, checked.at, "status_changed", Some(&id), &data)?;
            Ok(true)
        });
        Ok(stored.await?)
    }
}

/// A session that could be resumed cannot without its directory.
#[must_use]
pub fn with_directory(verdict: Verdict, launch_dir: &str) -> Verdict {
    if verdict.status == Status::Active && !Path::new(launch_dir).is_dir() {
        return Verdict::new(Status::Invalid, "directory_missing");
    }
    verdict
}

/// What a provider is told about a session.
pub(super) fn bound(row: &Stored) -> Bound {
    Bound {
        provider_session_id: row.session.provider_session_id.clone().unwrap_or_default(),
        scope: row.scope.clone(),
        location: row.location.clone(),
        launch_dir: row.session.launch_dir.clone(),
    }
}
