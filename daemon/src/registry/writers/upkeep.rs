//! The edits of provider files around our own runs: the only ones that `resume` and `send` make.
//!
//! Before a run, a transcript whose last line is torn gets a line feed, where the provider would
//! glue the next record to that line. Before, during and after a run, the session's own stubs are
//! removed, which would make the provider delete the transcript. Each edit is made after a copy
//! that can be put back (`crate::copies`), and is in the event log. Decides nothing about formats:
//! the provider names the files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sessd_proto::{EventType, Fault, FaultCode};

use super::Writers;
use super::leases::busy;
use crate::clock::now;
use crate::copies::{self, COPY_TIMEOUT, Copy};
use crate::providers::Stamp;
use crate::registry::homes::gate::CHECK_TIMEOUT;
use crate::registry::homes::{KnownHome, bound, known_home};
use crate::store::bindings;
use crate::store::events;
use crate::store::sessions::{self, Stored};

/// How long a torn transcript must be unchanged before a line feed is added: until then another
/// process may be about to write the rest of the line.
pub(crate) const QUIET_PERIOD: Duration = Duration::from_secs(10);

/// Interval for checking whether a torn transcript has changed.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Timeout for an edit with its copy, a little longer than that of the copy: no edit is made after
/// it.
const EDIT_TIMEOUT: Duration = COPY_TIMEOUT.saturating_add(Duration::from_secs(10));

impl Writers {
    /// Prepares the files of a session for a run: removes its stubs, and ends a torn last line.
    /// The caller has made sure that no other run can start; `own` is the process that has the
    /// lease already. Waits at most `patience` for a torn transcript to be quiet. Returns true if
    /// a file was changed.
    ///
    /// # Errors
    /// Fails with `busy` if the transcript is still being written or another process has the
    /// session, and if a file that must be changed cannot be copied or changed.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        own: Option<u32>,
        patience: Duration,
    ) -> Result<bool, Fault> {
        let removed = self.remove_stubs(known, row).await?;
        let give_up = Instant::now() + patience;
        let mut seen: Option<(Stamp, Instant)> = None;
        loop {
            let Some((path, stamp)) = self.find_torn(known, row).await? else {
                return Ok(removed);
            };
            let since = match seen {
                Some((old, since)) if old == stamp => since,
                _ => seen.insert((stamp, Instant::now())).1,
            };
            if age(stamp) >= QUIET_PERIOD || since.elapsed() >= QUIET_PERIOD {
                let live = self.live(row).await?;
                if live.blocks() && live.pid != own {
                    return Err(busy(&row.session, &live));
                }
                let kind = EventType::LineEnded;
                let edit = move |copies: &copies::Copies| copies.end_line(&path, stamp);
                if self.edit(known, row, kind, edit).await? {
                    return Ok(true);
                }
            } else if Instant::now() >= give_up {
                return Err(still_written(row));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Removes the stubs of a session; true if there was one.
    ///
    /// # Errors
    /// Fails if a stub cannot be copied or removed.
    pub(crate) async fn remove_stubs(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
    ) -> Result<bool, Fault> {
        let Some(read) = known.provider.discovery().stubs() else { return Ok(false) };
        let session = bound(row);
        let look = move |known: &KnownHome| {
            let stubs = read(&known.home, &session).into_iter();
            stubs.filter_map(|path| Some((copies::stamp(&path).ok()?, path))).collect::<Vec<_>>()
        };
        let found = self.homes.ask(known, CHECK_TIMEOUT, look).await?.unwrap_or_default();
        let mut removed = false;
        for (stamp, path) in found {
            let edit = move |copies: &copies::Copies| copies.remove(&path, stamp);
            removed |= self.edit(known, row, EventType::StubRemoved, edit).await?;
        }
        Ok(removed)
    }

    /// Removes the stubs of a session that one of our processes runs or has run. A failure is
    /// logged only: the next run tries again. Returns false if its provider leaves none.
    pub(crate) async fn remove_stubs_of(self: &Arc<Self>, session_id: &str) -> bool {
        let id = session_id.to_owned();
        let found = self.store.read(move |c| Ok((sessions::by_id(c, &id)?, bindings::homes(c)?)));
        let removed = async {
            let (row, homes) = found.await?;
            let known = homes.into_iter().filter_map(known_home);
            let leaves = |known: &KnownHome| known.provider.discovery().stubs().is_some();
            let is_its = |known: &KnownHome| row.as_ref().is_some_and(|it| it.home_id == known.id);
            let known = known.filter(leaves).find(is_its);
            let (Some(known), Some(row)) = (known, &row) else { return Ok(false) };
            self.remove_stubs(&known, row).await.map(|_| true)
        };
        removed.await.unwrap_or_else(|fault: Fault| {
            tracing::warn!("cannot remove the stubs of session {session_id}: {fault}");
            true
        })
    }

    /// Returns the file to which the next turn is appended, if its last line is torn.
    async fn find_torn(
        &self,
        known: &KnownHome,
        row: &Stored,
    ) -> Result<Option<(PathBuf, Stamp)>, Fault> {
        let find = known.provider.discovery().appends_to();
        let Some(find) = find.filter(|_| !row.location.is_empty()) else { return Ok(None) };
        let session = bound(row);
        let look = move |known: &KnownHome| {
            let Some(path) = find(&known.home, &session) else { return Ok(None) };
            Ok(copies::torn(&path)?.map(|stamp| (path, stamp)))
        };
        let looked: Option<io::Result<_>> = self.homes.ask(known, CHECK_TIMEOUT, look).await?;
        looked.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let what = format!("cannot read the transcript of {}: {error}", row.session.short_id());
            Fault::new(FaultCode::Environment, what).hint("what the daemon sees: `sessctl doctor`")
        })
    }

    /// Makes one edit and writes it into the event log; false if the file had changed. It ends
    /// even if the caller goes away.
    async fn edit(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        kind: EventType,
        edit: impl FnOnce(&copies::Copies) -> io::Result<Option<Copy>> + Send + 'static,
    ) -> Result<bool, Fault> {
        let (writers, known) = (Arc::clone(self), known.clone());
        let (id, short) = (row.session.id.clone(), row.session.short_id().to_owned());
        let whole = async move {
            let copies = writers.copies.clone();
            let edit = writers.homes.ask(&known, EDIT_TIMEOUT, move |_| edit(&copies)).await?;
            let edited = edit.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
            let edited = edited.map_err(|error| {
                let what = format!("cannot prepare the files of session {short}: {error}");
                Fault::new(FaultCode::Storage, what)
                    .hint("free space, or write access to the provider's folder, may be missing")
            })?;
            let Some(copy) = edited else { return Ok(false) };
            let data = json!({ "location": copy.original, "copy": copy.path });
            let append = move |tx: &rusqlite::Transaction<'_>| {
                events::append(tx, now(), kind, Some(&id), &data)
            };
            writers.store.write(append).await?;
            Ok(true)
        };
        tokio::spawn(whole).await.map_err(Fault::internal)?
    }
}

/// Returns the time since a file was changed; zero if that is in the future.
fn age(stamp: Stamp) -> Duration {
    let modified = Duration::from_nanos(u64::try_from(stamp.mtime_ns).unwrap_or(u64::MAX));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(modified)
}

fn still_written(row: &Stored) -> Fault {
    let short = row.session.short_id();
    let what = format!(
        "the transcript of the session {short} ends in the middle of a line and was changed less \
         than {} s ago",
        QUIET_PERIOD.as_secs()
    );
    let fault = Fault::new(FaultCode::Busy, what)
        .hint(format!("wait until nothing writes it: `sessctl resume --wait {short}`"));
    Fault { retryable: Some(true), ..fault }
}
