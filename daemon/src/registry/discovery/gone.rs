//! Concludes which sessions are gone from a home, and stores the state of the home.
//!
//! "Gone" is never guessed: a session is gone only if the part of its home that would hold it could
//! be listed and does not have it. What lies below a part that cannot be read is `unknown`. A sweep
//! that would lose more than half of a home is held and reported, because that is more often an
//! unmounted disk than a user who deletes; losses that were predicted do not count. Knows listings
//! and verdicts; lists nothing itself.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use sessd_proto::{Fault, Kind, Reason, Status, Timestamp};

use super::Discovery;
use super::sweep::Sweep;
use crate::clock::now;
use crate::providers::{Gap, Hidden, Verdict, file_of};
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::registry::homes::{HOME_REASONS, KnownHome, Trouble};
use crate::store::sessions::Stored;
use crate::store::{bindings, files, sessions};

/// Sessions that must vanish at once before the half rule applies; one is not a pattern.
const LOSS_MIN: usize = 2;

/// The most new unreadable parts of a home that one sweep logs.
const GAPS_LOGGED_MAX: usize = 20;

impl Discovery {
    /// Concludes that sessions are gone, unless so many vanished that the home is in doubt.
    /// `swept_at` is when the provider itself last deleted sessions: its deletions since the last
    /// listing raise no doubt, by whatever settings it made them, in the folders (`kept`) where it
    /// left some. A folder that is empty or gone may be a disk that is not mounted.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(super) async fn conclude_gone(
        &self,
        known: &KnownHome,
        (vanished, gaps): (HashSet<String>, &[Gap]),
        (swept_at, kept): (Option<Timestamp>, &HashSet<String>),
        sweep: &mut Sweep,
    ) -> Result<Option<Trouble>, Fault> {
        let parts = Hidden::by(gaps);
        let (hidden, vanished): (HashSet<_>, HashSet<_>) =
            vanished.into_iter().partition(|location| parts.has(location));
        for row in self.rows_at(known, hidden).await? {
            if row.session.reason != Some(Reason::PartUnreadable) {
                self.store_verdict(&row, Verdict::HIDDEN).await?;
            }
        }
        if vanished.is_empty() {
            return Ok(None);
        }
        let home_id = known.id;
        let of = self.store.read_slowly(move |c| bindings::count_in_home(c, home_id)).await?;
        let of = usize::try_from(of).unwrap_or(usize::MAX);
        let lost = self.rows_at(known, vanished.clone()).await?;
        let listed_at = self.homes.state(known.id).listed_at;
        let was_swept = |row: &&Stored| {
            let seen_at = listed_at.or(row.session.checked_at);
            swept_at.is_some_and(|swept| seen_at.is_some_and(|seen| seen < swept))
                && kept.contains(folder_of(&row.location))
        };
        let surprising = lost.iter().filter(|row| is_surprising(row) && !was_swept(row)).count();
        if surprising >= LOSS_MIN && surprising * 2 > of {
            return Ok(Some(Trouble::Held { lost: surprising, of }));
        }
        sweep.lost = lost.len();
        // A file that is replaced while its folder is listed may be missed by the listing. Only
        // then is the provider asked: each of its checks of a missing transcript lists the home.
        let files: Vec<_> = lost.iter().map(|row| file_of(&row.location).to_owned()).collect();
        let exist = move |_: &KnownHome| -> Vec<bool> {
            files.iter().map(|file| Path::new(file).symlink_metadata().is_ok()).collect()
        };
        let Some(exist) = self.homes.ask(known, LISTING_TIMEOUT, exist).await? else {
            return Ok(self.homes.trouble(known.id));
        };
        for (row, exists) in lost.iter().zip(exist) {
            let verdict =
                if exists { self.verdict_of(known, row, None).await? } else { Verdict::EXPIRED };
            self.store_verdict(row, verdict).await?;
        }
        self.store
            .write(move |tx| vanished.iter().try_for_each(|path| files::forget(tx, home_id, path)))
            .await?;
        Ok(None)
    }

    /// True if a session is gone from its folder or database, and that did not lose more than
    /// half of what the last sweep saw in it: then the rest of the home tells nothing about it.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(super) async fn is_gone_from_folder(
        &self,
        known: &KnownHome,
        row: &Stored,
    ) -> Result<bool, Fault> {
        let home_id = known.id;
        let seen = self.store.read_slowly(move |c| files::of_home(c, home_id)).await?;
        let location = row.location.clone();
        let is_gone = move |known: &KnownHome| {
            let Ok(listing) = known.provider.discovery().list(&known.home) else { return false };
            let folder = folder_of(&location);
            let listed = listing.transcripts.iter().map(|it| &*it.location);
            let there: HashSet<&str> = listed.filter(|it| folder_of(it) == folder).collect();
            let of = seen.keys().filter(|it| folder_of(it) == folder);
            let (kept, lost): (Vec<_>, Vec<_>) = of.partition(|it| there.contains(&***it));
            !listing.hides(&location) && !there.contains(&*location) && lost.len() <= kept.len()
        };
        Ok(self.homes.ask(known, LISTING_TIMEOUT, is_gone).await?.unwrap_or(false))
    }

    /// Returns the sessions whose transcripts were last seen at these locations.
    async fn rows_at(
        &self,
        known: &KnownHome,
        locations: HashSet<String>,
    ) -> Result<Vec<Stored>, Fault> {
        if locations.is_empty() {
            return Ok(Vec::new());
        }
        let home_id = known.id;
        let rows = self.store.read_slowly(move |c| {
            sessions::by_seqs(c, bindings::at_locations(c, home_id, &locations)?)
        });
        Ok(rows.await?)
    }

    /// Stores the state of a home; when a home, or a part of it, can be read again, its sessions
    /// are judged again.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(super) async fn update_home(
        self: &Arc<Self>,
        known: &KnownHome,
        trouble: Option<Trouble>,
        gaps: Vec<Gap>,
        had_any: bool,
    ) -> Result<(), Fault> {
        let before = self.homes.state(known.id);
        let (home, provider) = (known.home.path.display(), known.provider.id());
        if let Some(trouble) = &trouble
            && before.trouble.as_ref() != Some(trouble)
            && *trouble != Trouble::Missing
        {
            tracing::warn!("{provider} home {home}: {}", trouble.describe());
        }
        let known_gaps: HashSet<&Gap> = before.gaps.iter().collect();
        let mut new = gaps.iter().filter(|gap| !known_gaps.contains(gap));
        for gap in new.by_ref().take(GAPS_LOGGED_MAX) {
            tracing::warn!("{provider} home {home}: {}: {}", gap.path.display(), gap.error);
        }
        if let more @ 1.. = new.count() {
            tracing::warn!("{provider} home {home}: {more} more parts cannot be read");
        }
        let is_well = trouble.is_none();
        let has_changed = before.trouble.is_some() || *before.gaps != *gaps;
        let gaps: Arc<[Gap]> = gaps.into();
        let of_state = Arc::clone(&gaps);
        self.homes.update(known.id, |state| (state.trouble, state.gaps) = (trouble, of_state));
        let is_due = has_changed || !self.has_swept();
        if !(is_well && had_any && is_due) {
            return Ok(());
        }
        let home_id = known.id;
        let held = self.store.read_slowly(move |c| {
            sessions::by_seqs(c, sessions::held_back(c, home_id, HOME_REASONS)?)
        });
        let hidden = Hidden::by(&gaps);
        for row in held.await? {
            if hidden.has(&row.location) {
                continue;
            }
            let verdict = self.verdict_of(known, &row, None).await?;
            self.store_verdict(&row, verdict).await?;
        }
        Ok(())
    }
}

/// Returns the folder of the file at a location; of a database row, the database.
pub(super) fn folder_of(location: &str) -> &str {
    match file_of(location) {
        file if file.len() < location.len() => file,
        file => file.rsplit_once('/').map_or("", |(folder, _)| folder),
    }
}

/// True if a loss raises doubt: one that was predicted, or of a subagent's transcript, does not.
fn is_surprising(row: &Stored) -> bool {
    row.session.status != Status::Expired
        && row.session.kind != Kind::Subagent
        && row.session.expires_at.is_none_or(|at| at > now())
}
