//! Checks: whether sessions can be resumed. Free, and never more certain than what was seen.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use sessd_proto::session::{CheckRequest, ListRequest, SessionPage};
use sessd_proto::{Fault, Status, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Registry;
use super::homes::{KnownHome, Trouble};
use super::patience::{CHECK, LISTING};
use super::starting::STARTING;
use crate::clock::now;
use crate::providers::{Bound, Verdict};
use crate::store::sessions::{self, Checked, Outcome, Stored};
use crate::store::{events, page};

/// How often a check is made when the session changes under it.
const ATTEMPTS: usize = 3;

/// Sessions of one provider that are checked at the same time.
const AT_ONCE: usize = 3;

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
        let homes = self.known_homes().await?;
        let mut checked = Vec::with_capacity(rows.len());
        for row in rows {
            checked.push(self.check_in(&homes, row, request.accept_losses).await?);
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
        let checked = rows.len();
        let homes: Arc<[KnownHome]> = self.known_homes().await?.into();
        let mut at_once = BTreeMap::<String, Arc<Semaphore>>::new();
        let mut checks = JoinSet::new();
        for row in self.confirm_gone(&homes, rows).await? {
            let room = at_once.entry(row.session.provider.clone());
            let room = Arc::clone(room.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))));
            let (registry, homes) = (Arc::clone(self), Arc::clone(&homes));
            checks.spawn(async move {
                let _turn = room.acquire().await;
                let before = row.session.status;
                let now = registry.check_in(&homes, row, false).await?.session.status;
                Ok::<_, Fault>(now != before)
            });
        }
        let mut changed = 0;
        while let Some(check) = checks.join_next().await {
            changed += usize::from(check.map_err(Fault::internal)??);
        }
        Ok((checked, changed))
    }

    /// Confirms sessions that were gone at the last sweep of a home that is well, and answers
    /// the others. One that came back is a new transcript to a sweep, so that nothing but its
    /// old place needs a look; asked one by one, each would cost a listing of its home.
    async fn confirm_gone(
        &self,
        homes: &[KnownHome],
        rows: Vec<Stored>,
    ) -> Result<Vec<Stored>, Fault> {
        let is_gone = |row: &Stored| {
            let of_home = row.session.reason.as_deref() == Some("transcript_missing");
            row.session.status == Status::Expired && of_home && self.has_swept()
        };
        let (gone, mut others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_gone);
        for known in homes {
            let here = gone.iter().filter(|row| row.home_id == known.id);
            let (here, paths): (Vec<_>, Vec<_>) =
                here.map(|row| (row, row.location.clone())).unzip();
            let is_there = move |known: &KnownHome| {
                let listed = known.provider.discovery().list(&known.home).ok()?;
                let listed: HashSet<_> = listed.into_iter().map(|entry| entry.location).collect();
                Some(paths.iter().map(|path| listed.contains(path)).collect::<Vec<bool>>())
            };
            let well = !here.is_empty() && self.home_trouble(known.id).is_none();
            let asked = if well { self.ask_home(known, LISTING, is_there).await? } else { None };
            let asked = asked.flatten();
            for (index, row) in here.into_iter().enumerate() {
                if asked.as_ref().is_none_or(|there| there[index]) {
                    others.push(row.clone());
                } else {
                    self.keep(row, Verdict::new(Status::Expired, "transcript_missing")).await?;
                }
            }
        }
        Ok(others)
    }

    /// Checks one session and answers it as it is then.
    pub(super) async fn check_row(
        self: &Arc<Self>,
        row: Stored,
        accept_losses: bool,
    ) -> Result<Stored, Fault> {
        self.check_in(&self.known_homes().await?, row, accept_losses).await
    }

    /// Checks one session in its home, which is among these.
    async fn check_in(
        self: &Arc<Self>,
        homes: &[KnownHome],
        row: Stored,
        accept_losses: bool,
    ) -> Result<Stored, Fault> {
        let Some(known) = homes.iter().find(|known| known.id == row.home_id) else {
            return Ok(row);
        };
        let seq = row.seq;
        let mut row = row;
        for _ in 0..ATTEMPTS {
            let mut verdict = self.ask(known, &row).await?;
            if verdict.status == Status::Expired && row.session.status != Status::Expired {
                // It is looked for in its whole home first: it may have moved, or the home may
                // be in doubt.
                self.sweep_home(known).await?;
                row = self.stored(seq).await?;
                verdict = self.ask(known, &row).await?;
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

    /// Asks the provider about a session; a home that hangs gives no verdict.
    pub(super) async fn ask(&self, known: &KnownHome, row: &Stored) -> Result<Verdict, Fault> {
        if row.location.is_empty() {
            // It makes its transcript with its first turn.
            return Ok(Verdict::new(Status::Unknown, STARTING));
        }
        let bound = bound(row);
        let asked = self.ask_home(known, CHECK, move |known| {
            known.provider.discovery().check(&known.home, &bound)
        });
        let Some(verdict) = asked.await? else {
            return Ok(Verdict::new(Status::Unknown, "home_unreadable"));
        };
        if verdict.status != Status::Active {
            return Ok(verdict);
        }
        // Not through the home's gate: the directory may be on a worse disk.
        Ok(with_directory(verdict, self.is_dir(&row.session.launch_dir).await?))
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

/// A session that could be resumed cannot without its directory, of which nothing is known if
/// its disk does not answer.
#[must_use]
pub fn with_directory(verdict: Verdict, exists: Option<bool>) -> Verdict {
    match exists {
        _ if verdict.status != Status::Active => verdict,
        Some(true) => verdict,
        Some(false) => Verdict::new(Status::Invalid, "directory_missing"),
        None => Verdict::new(Status::Unknown, "directory_unreadable"),
    }
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
    fn a_directory_that_does_not_answer_leaves_a_session_unknown() {
        let seen = |verdict: &Verdict| (verdict.status, verdict.reason);
        let active = || Verdict { status: Status::Active, reason: None };
        let unknown = with_directory(active(), None);
        assert_eq!(seen(&unknown), (Status::Unknown, Some("directory_unreadable")));
        let gone = || Verdict::new(Status::Expired, "transcript_missing");
        assert_eq!(seen(&with_directory(gone(), None)), seen(&gone()));
    }

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
