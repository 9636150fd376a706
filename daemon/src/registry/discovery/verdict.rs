//! Verdicts: decides whether a session can be resumed. A check is free, and its verdict is never
//! more certain than the evidence: a home in doubt, or a directory whose disk does not answer,
//! makes a session `unknown`, never `expired`.

use std::sync::Arc;

use serde_json::json;
use sessd_proto::{EventType, Fault, FaultCode, Reason, Session, Status, Timestamp};

use super::Discovery;
use super::round::Round;
use crate::clock::now;
use crate::providers::{Reader, Verdict};
use crate::registry::homes::gate::CHECK_TIMEOUT;
use crate::registry::homes::{KnownHome, Trouble, bound};
use crate::store::events;
use crate::store::sessions::{self, Checked, Outcome, Stored};

/// Attempts to store a verdict while the session keeps changing.
const ATTEMPTS_MAX: usize = 3;

/// The meaning of a loss that looks too large to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// The home is in doubt, and its sessions are `unknown`.
    Doubt,
    /// The user has said that the sessions are gone.
    Accept,
}

/// True if a session was registered and has not been started yet.
pub(crate) fn is_unstarted(session: &Session) -> bool {
    session.status == Status::Unknown && session.reason == Some(Reason::Starting)
}

impl Discovery {
    /// Returns a stored session by its row number.
    ///
    /// # Errors
    /// Fails with `not_found` if the session was deleted, or if the registry cannot be read.
    pub(crate) async fn load(&self, seq: i64) -> Result<Stored, Fault> {
        let row = self.store.read(move |c| sessions::by_seq(c, seq)).await?;
        row.ok_or_else(|| {
            Fault::new(FaultCode::NotFound, "the session was deleted in the meantime")
        })
    }

    /// Checks one session, stores the verdict, and returns the session as it is then.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written, or the session is deleted meanwhile.
    pub(crate) async fn check(self: &Arc<Self>, row: Stored) -> Result<Stored, Fault> {
        let (homes, round) = (self.homes.known().await?, Round::default());
        self.check_in(&homes, row, Losses::Doubt, None, &round).await
    }

    /// Like [`Self::check`], for the program that a start with this PATH would run.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written, or the session is deleted meanwhile.
    pub(crate) async fn check_on(
        self: &Arc<Self>,
        row: Stored,
        path: Option<&str>,
    ) -> Result<Stored, Fault> {
        let (homes, round) = (self.homes.known().await?, Round::default());
        self.check_in(&homes, row, Losses::Doubt, path, &round).await
    }

    /// Like [`Self::check_on`], with the known homes and the rule for losses given, and with what
    /// was found out in the same round.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written, or the session is deleted meanwhile.
    pub(crate) async fn check_in(
        self: &Arc<Self>,
        homes: &[KnownHome],
        row: Stored,
        losses: Losses,
        path: Option<&str>,
        round: &Round,
    ) -> Result<Stored, Fault> {
        let Some(known) = homes.iter().find(|known| known.id == row.home_id) else {
            return Ok(row);
        };
        let seq = row.seq;
        let mut row = row;
        for _ in 0..ATTEMPTS_MAX {
            let mut verdict = self.verdict_in(known, &row, path, round).await?;
            if verdict.status == Status::Expired && row.session.status != Status::Expired {
                // Look through the whole home first: the session may have moved, or the home may
                // be in doubt. What a sweep has left in doubt already, the next one judges again.
                let is_held = || matches!(self.homes.trouble(known.id), Some(Trouble::Held { .. }));
                if round.begins_sweep(known.id)
                    && !(is_held() && row.session.reason == Some(Reason::HomeHeld))
                {
                    self.sweep_home(known).await?;
                    round.forget_reader(known.id);
                }
                row = self.load(seq).await?;
                verdict = self.verdict_in(known, &row, path, round).await?;
                if verdict.status == Status::Expired
                    && losses == Losses::Doubt
                    && is_held()
                    && !self.is_gone_from_its_folder(known, &row, round).await?
                {
                    verdict = Verdict::of(Reason::HomeHeld);
                }
            }
            if row.is_past_ttl(now()) {
                verdict = Verdict::of(Reason::Ttl);
            }
            let stored = self.store_verdict(&row, verdict).await?;
            row = self.load(seq).await?;
            if stored {
                break;
            }
        }
        Ok(row)
    }

    /// Returns the provider's verdict on a session, without storing it, for the program that a
    /// start with this PATH would run; without one the daemon's counts.
    ///
    /// # Errors
    /// Fails if the provider panics.
    pub(crate) async fn verdict_of(
        &self,
        known: &KnownHome,
        row: &Stored,
        path: Option<&str>,
    ) -> Result<Verdict, Fault> {
        self.verdict_in(known, row, path, &Round::default()).await
    }

    /// Like [`Self::verdict_of`], with what was found out in the same round.
    async fn verdict_in(
        &self,
        known: &KnownHome,
        row: &Stored,
        path: Option<&str>,
        round: &Round,
    ) -> Result<Verdict, Fault> {
        if row.location.is_empty() {
            // The provider writes its transcript during the first turn.
            return Ok(Verdict::of(Reason::Starting));
        }
        if round.is_missing(row) {
            return Ok(Verdict::EXPIRED);
        }
        let (bound, reader) = (bound(row), round.reader(known.id));
        let asked = self.homes.ask(known, CHECK_TIMEOUT, move |known| {
            let new = || Arc::from(known.provider.discovery().reader_of(&known.home));
            let reader: Arc<dyn Reader> = reader.unwrap_or_else(new);
            (reader.check(&bound), reader)
        });
        let Some((verdict, reader)) = asked.await? else {
            return Ok(Verdict::of(Reason::HomeUnreadable));
        };
        round.keep_reader(known.id, reader);
        let verdict = self.for_program(known, verdict, path).await?;
        if verdict.status != Status::Active {
            return Ok(verdict);
        }
        // Not through the home's gate: the directory may be on another disk, which may hang.
        let dir = &row.session.launch_dir;
        Ok(with_directory(verdict, dir, self.homes.directories.is_dir(dir).await?))
    }

    /// Returns a verdict for the program that a start with this PATH would run.
    async fn for_program(
        &self,
        known: &KnownHome,
        verdict: Verdict,
        path: Option<&str>,
    ) -> Result<Verdict, Fault> {
        if verdict.lifted_by.is_none() {
            return Ok(verdict);
        }
        let version = self.homes.version(known.provider, path).await?;
        Ok(verdict.for_program(version, known.provider.newest_tested()))
    }

    /// Stores a verdict; returns `false` if the session has changed since `row` was read.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub(crate) async fn store_verdict(
        &self,
        row: &Stored,
        verdict: Verdict,
    ) -> Result<bool, Fault> {
        let checked = Checked {
            seq: row.seq,
            revision: row.session.revision,
            status: verdict.status,
            reason: verdict.reason,
            at: now(),
        };
        let id = row.session.id.clone();
        let lead_ms = 1000 * i64::from(self.config.heartbeat.expiring_s);
        let expiring = row.session.expires_at.filter(|expires_at| {
            enters_expiry_warning(*expires_at, lead_ms, row.session.checked_at, checked.at)
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
                append(
                    EventType::StatusChanged,
                    json!({ "from": from, "to": to, "reason": reason }),
                )?;
            }
            if let Some(expires_at) = expiring {
                append(EventType::Expiring, json!({ "expires_at": expires_at }))?;
            }
            Ok(true)
        });
        Ok(stored.await?)
    }
}

/// True for the first check after `lead_ms` before the predicted expiry, however late it comes.
fn enters_expiry_warning(
    expires_at: Timestamp,
    lead_ms: i64,
    last_check: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let begin = expires_at.plus_ms(-lead_ms);
    begin <= now && last_check.is_none_or(|last| last < begin)
}

/// Refines an `active` verdict: without its launch directory a session cannot be resumed. `exists`
/// is `None` if the disk of that directory does not answer.
#[must_use]
pub(crate) fn with_directory(verdict: Verdict, dir: &str, exists: Option<bool>) -> Verdict {
    match exists {
        _ if verdict.status != Status::Active => verdict,
        _ if dir.is_empty() => Verdict::of(Reason::DirectoryUnknown),
        Some(true) => verdict,
        Some(false) => Verdict::of(Reason::DirectoryMissing),
        None => Verdict::of(Reason::DirectoryUnreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hung_directory_leaves_a_session_unknown() {
        let seen = |verdict: &Verdict| (verdict.status, verdict.reason);
        let active = || Verdict::ACTIVE;
        let unknown = with_directory(active(), "/", None);
        assert_eq!(seen(&unknown), (Status::Unknown, Some(Reason::DirectoryUnreadable)));
        let gone = || Verdict::of(Reason::TranscriptMissing);
        assert_eq!(seen(&with_directory(gone(), "/", None)), seen(&gone()));
        let unnamed = with_directory(active(), "", Some(false));
        assert_eq!(seen(&unnamed), (Status::Unknown, Some(Reason::DirectoryUnknown)));
    }

    #[test]
    fn expiry_is_announced_once() {
        let (day, expires_at) = (86_400_000, Timestamp(100 * 86_400_000));
        let on = |day_of_check: i64, last: Option<i64>| {
            let last = last.map(|last| Timestamp(last * day));
            enters_expiry_warning(expires_at, 3 * day, last, Timestamp(day_of_check * day))
        };
        assert!(!on(96, None), "too early");
        assert!(on(97, None) && on(98, Some(96)));
        assert!(!on(99, Some(98)), "announced already");
        assert!(on(101, Some(96)), "late, and still there");
    }
}
