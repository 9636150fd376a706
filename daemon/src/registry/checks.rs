//! Checks: whether sessions can be resumed. Free, and never more certain than what was seen.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sessd_proto::session::{CheckRequest, ListRequest, SessionPage};
use sessd_proto::{Fault, Status, Timestamp};

use super::homes::{KnownHome, Trouble};
use super::starting::STARTING;
use super::{Registry, blocking};
use crate::clock::now;
use crate::providers::{Bound, Verdict};
use crate::store::sessions::{self, Checked, Outcome, Stored};
use crate::store::{events, page};

/// How often a check is made when the session changes under it.
const ATTEMPTS: usize = 3;

/// How long one check may take.
const CHECK: Duration = Duration::from_secs(5);

impl Registry {
    /// Checks the sessions that were asked for, or a page of all.
    ///
    /// # Errors
    /// When a selector means nothing or too much, and those of the store.
    pub async fn check(self: &Arc<Self>, request: CheckRequest) -> Result<SessionPage, Fault> {
        let (rows, next) = if request.selectors.is_empty() {
            self.first_sweep().await;
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
                sessions::by_seqs(c, sessions::oldest_checks(c, before, options.batch)?)
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
            if row.is_past_ttl(now()) {
                verdict = Verdict::new(Status::Expired, "ttl");
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

    /// Asks the provider about a session; a store that hangs gives no verdict.
    pub(super) async fn ask(&self, known: &KnownHome, row: &Stored) -> Result<Verdict, Fault> {
        if row.location.is_empty() {
            // It makes its transcript with its first turn.
            return Ok(Verdict::new(Status::Unknown, STARTING));
        }
        let (known, bound) = (known.clone(), bound(row));
        let launch_dir = row.session.launch_dir.clone();
        let asked = blocking(move || {
            let verdict = known.provider.check(&known.home, &bound);
            with_directory(verdict, Path::new(&launch_dir).is_dir())
        });
        let hangs = Verdict::new(Status::Unknown, "check_timed_out");
        tokio::time::timeout(CHECK, asked).await.unwrap_or(Ok(hangs))
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
        let lead_ms = 1000 * i64::from(self.config.heartbeat.expiring_s);
        let expiring = row.session.expires_at.filter(|expires_at| {
            begins_to_expire(*expires_at, lead_ms, row.session.checked_at, checked.at)
        });
        let stored = self.store.write(move |tx| {
            let from = match sessions::set_checked(tx, &checked)? {
                Outcome::Raced => return Ok(false),
                Outcome::Confirmed => None,
                Outcome::Changed(from) => Some(from),
            };
            let append = |kind, data| events::append(tx, checked.at, kind, Some(&id), &data);
            if let Some(from) = from {
                let (to, reason) = (checked.status, &checked.reason);
                append("status_changed", json!({ "from": from, "to": to, "reason": reason }))?;
            }
            if let Some(expires_at) = expiring {
                append("expiring", json!({ "expires_at": expires_at }))?;
            }
            Ok(true)
        });
        Ok(stored.await?)
    }
}

/// True for the first check in the time before a predicted expiry.
fn begins_to_expire(
    expires_at: Timestamp,
    lead_ms: i64,
    last_check: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let begin = expires_at.plus_ms(-lead_ms);
    (begin..expires_at).contains(&now) && last_check.is_none_or(|last| last < begin)
}

/// A session that could be resumed cannot without its directory.
#[must_use]
pub fn with_directory(verdict: Verdict, exists: bool) -> Verdict {
    if verdict.status == Status::Active && !exists {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_announced_once() {
        let (day, expires_at) = (86_400_000, Timestamp(100 * 86_400_000));
        let on = |day_of_check: i64, last: Option<i64>| {
            let last = last.map(|last| Timestamp(last * day));
            begins_to_expire(expires_at, 3 * day, last, Timestamp(day_of_check * day))
        };
        assert!(!on(96, None), "too early");
        assert!(on(97, None) && on(98, Some(96)));
        assert!(!on(99, Some(98)), "announced already");
        assert!(!on(100, Some(96)), "over already");
    }
}
