//! Checks of many sessions at once: facts that they share are found out once, so that the work is
//! linear in their number. A transcript that is missing would cost a listing of its home, and one
//! that was forked a look at every ancestor. Must not know the rules of a verdict.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sessd_proto::{Fault, Reason, Status};

use super::Discovery;
use super::gone::folder_of;
use super::verdict::Losses;
use crate::clock::now;
use crate::providers::{Hidden, Reader, file_of};
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::registry::homes::{KnownHome, State, Trouble};
use crate::store::sessions::{self, Stored};

/// A listing is good for the checks of this time, in milliseconds. A longer time than a listing
/// takes, so that a long round is not spent with listings.
const FRESH_MS: i64 = 2_000;

/// Facts that the checks of one call have found out. They must not outlive it, since files change.
#[derive(Default)]
pub(crate) struct Round(Mutex<Findings>);

#[derive(Default)]
struct Findings {
    /// The readers, by home.
    readers: HashMap<i64, Arc<dyn Reader>>,
    /// The homes that were swept.
    swept: HashSet<i64>,
    /// The rows and locations of the transcripts that are certainly not in a home that was listed.
    missing: HashSet<(i64, String)>,
    /// Folders that lost transcripts, and whether that proves them gone.
    folders: HashMap<(i64, String), bool>,
}

impl Round {
    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reader(&self, home_id: i64) -> Option<Arc<dyn Reader>> {
        self.findings().readers.get(&home_id).cloned()
    }

    pub(super) fn keep_reader(&self, home_id: i64, reader: Arc<dyn Reader>) {
        self.findings().readers.insert(home_id, reader);
    }

    pub(super) fn forget_reader(&self, home_id: i64) {
        self.findings().readers.remove(&home_id);
    }

    /// True if a home was not swept yet; it is then swept by the caller.
    pub(super) fn begins_sweep(&self, home_id: i64) -> bool {
        self.findings().swept.insert(home_id)
    }

    /// True if the transcript of a session is certainly not where it was.
    pub(super) fn is_missing(&self, row: &Stored) -> bool {
        let findings = self.findings();
        !findings.missing.is_empty() && findings.missing.contains(&(row.seq, row.location.clone()))
    }
}

impl Discovery {
    /// Checks sessions, stores the verdicts, and returns the sessions as they are then. A page that
    /// follows another may rely on its listing of a moment ago.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written, or a session is deleted meanwhile.
    pub(crate) async fn check_all(
        self: &Arc<Self>,
        rows: Vec<Stored>,
        losses: Losses,
        follows: bool,
    ) -> Result<Vec<Stored>, Fault> {
        let homes = self.homes.known().await?;
        let round = Round::default();
        let rows = self.find_missing(&homes, rows, follows, &round).await?;
        let mut checked = Vec::with_capacity(rows.len());
        for row in rows {
            checked.push(self.check_in(&homes, row, losses, None, &round).await?);
        }
        Ok(checked)
    }

    /// Sweeps the homes in which transcripts of these sessions are missing, unless an earlier page
    /// has listed them a moment ago, and notes which are missing after that. Returns the sessions
    /// as they are then.
    async fn find_missing(
        self: &Arc<Self>,
        homes: &[KnownHome],
        mut rows: Vec<Stored>,
        follows: bool,
        round: &Round,
    ) -> Result<Vec<Stored>, Fault> {
        for known in homes {
            let missing = self.missing(known, &rows).await?;
            if missing.is_empty() {
                continue;
            }
            let missing: HashSet<i64> = missing.into_iter().map(|(seq, _)| seq).collect();
            let mut concluded = rows.iter().filter(|row| missing.contains(&row.seq));
            // A session that is not known to be gone may have moved a moment ago.
            let is_known = self.is_held(known) || concluded.all(is_gone);
            if !(follows && is_known && self.is_fresh(known)) {
                self.sweep_home(known).await?;
            }
            let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            let found = self.store.read(move |c| sessions::by_seqs(c, seqs)).await?;
            let mut found: HashMap<i64, Stored> =
                found.into_iter().map(|it| (it.seq, it)).collect();
            rows = rows.into_iter().map(|it| found.remove(&it.seq).unwrap_or(it)).collect();
            if self.homes.trouble(known.id).is_none() || self.is_held(known) {
                let missing = self.missing(known, &rows).await?;
                let mut findings = round.findings();
                findings.swept.insert(known.id);
                findings.missing.extend(missing);
            }
        }
        Ok(rows)
    }

    fn is_held(&self, known: &KnownHome) -> bool {
        matches!(self.homes.trouble(known.id), Some(Trouble::Held { .. }))
    }

    fn is_fresh(&self, known: &KnownHome) -> bool {
        let State { looked_at, .. } = self.homes.state(known.id);
        looked_at.is_some_and(|at| (0..FRESH_MS).contains(&(now().0 - at.0)))
    }

    /// Returns those of the sessions whose files are not there, in a part of the home that could be
    /// listed.
    async fn missing(
        &self,
        known: &KnownHome,
        rows: &[Stored],
    ) -> Result<Vec<(i64, String)>, Fault> {
        let gaps = self.homes.state(known.id).gaps;
        let here = rows.iter().filter(|row| row.home_id == known.id && !row.location.is_empty());
        let hidden = Hidden::by(&gaps);
        let here = here.filter(|row| !hidden.has(&row.location));
        let mut here: Vec<_> = here.map(|row| (row.seq, row.location.clone())).collect();
        if here.is_empty() {
            return Ok(here);
        }
        let look = move |_: &KnownHome| {
            here.retain(|(_, location)| {
                let there = Path::new(file_of(location)).symlink_metadata();
                there.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            });
            here
        };
        Ok(self.homes.ask(known, LISTING_TIMEOUT, look).await?.unwrap_or_default())
    }

    /// True if a session is gone from its folder, and that did not lose too much at once; asked
    /// once for each folder.
    pub(super) async fn is_gone_from_its_folder(
        &self,
        known: &KnownHome,
        row: &Stored,
        round: &Round,
    ) -> Result<bool, Fault> {
        if !round.is_missing(row) {
            return self.is_gone_from_folder(known, row).await;
        }
        let key = (known.id, folder_of(&row.location).to_owned());
        let answered = round.findings().folders.get(&key).copied();
        if let Some(is_gone) = answered {
            return Ok(is_gone);
        }
        let is_gone = self.is_gone_from_folder(known, row).await?;
        round.findings().folders.insert(key, is_gone);
        Ok(is_gone)
    }
}

fn is_gone(row: &Stored) -> bool {
    let is_missing = row.session.reason == Some(Reason::TranscriptMissing);
    row.session.status == Status::Expired && is_missing
}
