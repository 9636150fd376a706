//! Changes that users make to sessions: trash, pins, tags, titles. It must not change a provider's
//! store.

use std::sync::Arc;

use rusqlite::Transaction;
use sessd_proto::change::{ChangeResponse, SelectorsRequest, TagRequest, TitleRequest};
use sessd_proto::{Fault, FaultCode, Live, TrashReason};

use super::Sessions;
use crate::clock::now;
use crate::failpoint;
use crate::registry::writers::leases::{busy, is_leased};
use crate::store::sessions::{self, Stored};
use crate::store::{self, annotations, trash};

/// The longest tag, in characters.
const TAG_MAX: usize = 64;

/// The longest title, in characters.
const TITLE_MAX: usize = 200;

impl Sessions {
    /// Moves sessions to the trash; their transcripts stay. All of them are moved or none.
    ///
    /// # Errors
    /// Fails if a selector cannot be resolved, or a session is pinned (`usage`) or open (`busy`).
    pub(crate) async fn delete(
        self: &Arc<Self>,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        let rows = self.resolve_all(&request.selectors).await?;
        for row in &rows {
            let live = self.writers.live(row).await?;
            if live.blocks() {
                return Err(busy(&row.session, &live));
            }
            if self.writers.queues.has(&row.session.id) {
                return Err(busy(&row.session, &Live::default()));
            }
            if row.session.pinned {
                return Err(pinned(row));
            }
        }
        self.change(rows, |tx, row| {
            if row.session.trashed_at.is_some() {
                return Ok(());
            }
            let is_free = !is_leased(tx, row)?;
            if !is_free || !trash::put(tx, row, now(), TrashReason::Deleted)? {
                return Err(raced(row).into());
            }
            Ok(())
        })
        .await
    }

    /// Takes sessions out of the trash, lifts a time to live that has passed, and brings back
    /// purged sessions whose transcripts still exist.
    ///
    /// # Errors
    /// Fails if a selector cannot be resolved; then no session is changed.
    pub(crate) async fn undelete(
        self: &Arc<Self>,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        for selector in &request.selectors {
            let id = selector.clone();
            if !self.store.read(move |c| trash::has_tombstone(c, &id)).await? {
                self.resolve(selector).await?;
            }
        }
        for selector in &request.selectors {
            self.restore_purged(selector).await?;
        }
        let rows = self.resolve_all(&request.selectors).await?;
        let changed = self
            .change(rows, |tx, row| {
                let is_in = row.session.trashed_at.is_some();
                if is_in && !trash::take_out(tx, row, now())? {
                    return Err(raced(row).into());
                }
                if row.is_past_ttl(now()) {
                    annotations::set_ttl(tx, &row.session.id, None)?;
                }
                Ok(())
            })
            .await?;
        self.check_changed(changed).await
    }

    /// Pins sessions: no cleanup touches them.
    ///
    /// # Errors
    /// Fails if a selector cannot be resolved; then no session is changed.
    pub(crate) async fn pin(
        self: &Arc<Self>,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        let rows = self.resolve_all(&request.selectors).await?;
        let changed = self.change(rows, |tx, row| annotations::pin(tx, row, true, now())).await?;
        // A pin stops the time to live.
        self.check_changed(changed).await
    }

    /// Unpins sessions.
    ///
    /// # Errors
    /// Fails if a selector cannot be resolved; then no session is changed.
    pub(crate) async fn unpin(
        self: &Arc<Self>,
        request: SelectorsRequest,
    ) -> Result<ChangeResponse, Fault> {
        let rows = self.resolve_all(&request.selectors).await?;
        self.change(rows, |tx, row| annotations::pin(tx, row, false, now())).await
    }

    /// Adds tags to a session.
    ///
    /// # Errors
    /// Fails if the selector cannot be resolved, or with `usage` for an invalid tag.
    pub(crate) async fn tag(
        self: &Arc<Self>,
        request: TagRequest,
    ) -> Result<ChangeResponse, Fault> {
        if let Some(tag) = request.tags.iter().find(|tag| !is_tag(tag)) {
            let what = format!("invalid tag `{tag}`: 1 to {TAG_MAX} characters, no whitespace");
            return Err(Fault::new(FaultCode::Usage, what)
                .hint("several tags are several arguments: `sessctl tag ID work later`"));
        }
        let row = self.resolve(&request.selector).await?;
        let tags = request.tags;
        let add = move |tx: &Transaction<'_>, row: &Stored| {
            tags.iter().try_for_each(|tag| annotations::tag(tx, row, tag, now()))
        };
        let changed = self.change(vec![row], add).await?;
        self.check_changed(changed).await
    }

    /// Removes tags from a session.
    ///
    /// # Errors
    /// Fails if the selector cannot be resolved.
    pub(crate) async fn untag(
        self: &Arc<Self>,
        request: TagRequest,
    ) -> Result<ChangeResponse, Fault> {
        let row = self.resolve(&request.selector).await?;
        let tags = request.tags;
        let remove = move |tx: &Transaction<'_>, row: &Stored| {
            tags.iter().try_for_each(|tag| annotations::untag(tx, row, tag, now()))
        };
        self.change(vec![row], remove).await
    }

    /// Sets a session's own title, or with `None` goes back to the provider's.
    ///
    /// # Errors
    /// Fails if the selector cannot be resolved, or with `usage` for an invalid title.
    pub(crate) async fn title(
        self: &Arc<Self>,
        request: TitleRequest,
    ) -> Result<ChangeResponse, Fault> {
        let title = request.title.map(|title| title.trim().to_owned());
        let is_title = |title: &String| {
            (1..=TITLE_MAX).contains(&title.chars().count()) && !title.contains(char::is_control)
        };
        if title.as_ref().is_some_and(|title| !is_title(title)) {
            let what = format!("a title is one line of 1 to {TITLE_MAX} characters");
            return Err(Fault::new(FaultCode::Usage, what)
                .hint("the provider's title again: `sessctl title ID --clear`"));
        }
        let row = self.resolve(&request.selector).await?;
        let set = move |tx: &Transaction<'_>, row: &Stored| {
            annotations::title(tx, row, title.as_deref(), now())
        };
        self.change(vec![row], set).await
    }

    /// Brings back a purged session whose transcript still exists, under its old id.
    async fn restore_purged(self: &Arc<Self>, selector: &str) -> Result<(), Fault> {
        if !self.lookup(selector).await?.is_empty() {
            return Ok(());
        }
        let id = selector.to_owned();
        let homes = self.store.write_durable(move |tx| trash::lift_tombstones(tx, &id)).await?;
        if homes.is_empty() {
            return Ok(());
        }
        failpoint::reach("undelete.lifted");
        for known in self.homes.known().await?.iter().filter(|known| homes.contains(&known.id)) {
            self.discovery.sweep_home(known).await?;
        }
        Ok(())
    }

    async fn resolve_all(self: &Arc<Self>, selectors: &[String]) -> Result<Vec<Stored>, Fault> {
        let mut rows: Vec<Stored> = Vec::new();
        for selector in selectors {
            let row = self.resolve(selector).await?;
            if rows.iter().all(|other| other.seq != row.seq) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Changes all of the sessions or none, and returns them as they are then.
    async fn change(
        self: &Arc<Self>,
        rows: Vec<Stored>,
        change: impl Fn(&Transaction<'_>, &Stored) -> store::Result<()> + Send + 'static,
    ) -> Result<ChangeResponse, Fault> {
        let changed = self
            .store
            .write_durable(move |tx| {
                rows.iter().try_for_each(|row| change(tx, row))?;
                sessions::by_seqs(tx, rows.iter().map(|row| row.seq))
            })
            .await?;
        failpoint::reach("change.stored");
        Ok(ChangeResponse { sessions: self.writers.with_live(changed).await? })
    }

    /// Checks changed sessions, since the change may have changed their status.
    async fn check_changed(
        self: &Arc<Self>,
        changed: ChangeResponse,
    ) -> Result<ChangeResponse, Fault> {
        let mut rows = Vec::new();
        for session in changed.sessions {
            let row = self.resolve(&session.id).await?;
            rows.push(self.discovery.check(row).await?);
        }
        Ok(ChangeResponse { sessions: self.writers.with_live(rows).await? })
    }
}

fn is_tag(tag: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    (1..=TAG_MAX).contains(&tag.chars().count()) && tag.chars().all(is_plain)
}

fn pinned(row: &Stored) -> Fault {
    let short = row.session.short_id();
    Fault::new(FaultCode::Usage, format!("the session {short} is pinned"))
        .hint(format!("unpin it first: `sessctl unpin {short}`"))
}

fn raced(row: &Stored) -> Fault {
    let short = row.session.short_id();
    Fault::new(
        FaultCode::Busy,
        format!("the session {short} was changed by another caller at the same moment"),
    )
    .hint("try again")
}
