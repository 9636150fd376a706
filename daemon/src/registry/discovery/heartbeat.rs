//! The heartbeat: checks the sessions whose last check is oldest, in the background.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sessd_proto::{Fault, Reason, Status};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Discovery;
use super::round::Round;
use super::verdict::Losses;
use crate::clock::now;
use crate::providers::{Hidden, Verdict};
use crate::registry::homes::KnownHome;
use crate::registry::homes::gate::LISTING_TIMEOUT;
use crate::store::sessions::{self, Stored};

/// The most sessions of one provider that are checked at the same time.
const CHECKS_PER_PROVIDER: usize = 3;

impl Discovery {
    /// Checks the sessions whose last check is oldest; returns how many were checked and how many
    /// of them changed their status.
    ///
    /// # Errors
    /// Fails if the registry cannot be read or written.
    pub(crate) async fn check_oldest(self: &Arc<Self>) -> Result<(usize, usize), Fault> {
        let options = self.config.heartbeat.clone();
        let before = now().plus_ms(-1000 * i64::from(options.fresh_s)).0;
        let rows = self
            .store
            .read_slowly(move |c| {
                sessions::by_seqs(c, sessions::oldest_checks(c, before, options.batch)?)
            })
            .await?;
        let checked = rows.len();
        let homes: Arc<[KnownHome]> = self.homes.known().await?.into();
        let mut by_provider = BTreeMap::<String, Arc<Semaphore>>::new();
        let mut checks = JoinSet::new();
        let round = Arc::new(Round::default());
        for row in self.confirm_gone(&homes, rows).await? {
            let room = by_provider.entry(row.session.provider.clone());
            let room =
                Arc::clone(room.or_insert_with(|| Arc::new(Semaphore::new(CHECKS_PER_PROVIDER))));
            let (discovery, homes) = (Arc::clone(self), Arc::clone(&homes));
            let round = Arc::clone(&round);
            checks.spawn(async move {
                let _turn = room.acquire().await;
                let before = row.session.status;
                let row = discovery.check_in(&homes, row, Losses::Doubt, None, &round).await?;
                Ok::<_, Fault>(row.session.status != before)
            });
        }
        let mut changed = 0;
        while let Some(check) = checks.join_next().await {
            changed += usize::from(check.map_err(Fault::internal)??);
        }
        Ok((checked, changed))
    }

    /// Confirms sessions that are still gone from homes without trouble, and returns all others.
    /// A session that came back would show as a new transcript in a sweep, so one listing per home,
    /// searched for the old locations, is enough; checked one by one, each would cost a listing.
    async fn confirm_gone(
        &self,
        homes: &[KnownHome],
        rows: Vec<Stored>,
    ) -> Result<Vec<Stored>, Fault> {
        let is_gone = |row: &Stored| {
            let of_home = row.session.reason == Some(Reason::TranscriptMissing);
            row.session.status == Status::Expired && of_home && self.has_swept()
        };
        let (gone, mut others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_gone);
        for known in homes {
            let here = gone.iter().filter(|row| row.home_id == known.id);
            let (here, paths): (Vec<_>, Vec<_>) =
                here.map(|row| (row, row.location.clone())).unzip();
            let is_there = move |known: &KnownHome| {
                let listed = known.provider.discovery().list(&known.home).ok()?;
                let parts = Hidden::by(&listed.gaps);
                let hidden: Vec<bool> = paths.iter().map(|path| parts.has(path)).collect();
                let there: HashSet<_> =
                    listed.transcripts.into_iter().map(|entry| entry.location).collect();
                let in_doubt = paths.iter().zip(hidden);
                let in_doubt = in_doubt.map(|(path, hidden)| hidden || there.contains(path));
                Some(in_doubt.collect::<Vec<bool>>())
            };
            let well = !here.is_empty() && self.homes.trouble(known.id).is_none();
            let asked =
                if well { self.homes.ask(known, LISTING_TIMEOUT, is_there).await? } else { None };
            let asked = asked.flatten();
            for (index, row) in here.into_iter().enumerate() {
                if asked.as_ref().is_none_or(|there| there[index]) {
                    others.push(row.clone());
                } else {
                    self.store_verdict(row, Verdict::of(Reason::TranscriptMissing)).await?;
                }
            }
        }
        Ok(others)
    }
}
