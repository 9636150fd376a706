//! The `check` call: checks sessions now, and stores and returns the verdicts. It must not know the
//! rules of a verdict: those are in `discovery`.

use std::sync::Arc;

use sessd_proto::Fault;
use sessd_proto::session::{CheckRequest, ListRequest, SessionPage, Sort};

use super::Sessions;
use crate::registry::discovery::verdict::Losses;
use crate::store::page;

impl Sessions {
    /// Checks the selected sessions, or a page of all.
    ///
    /// # Errors
    /// Fails with `not_found` or `ambiguous` for a selector, or if the registry cannot be read or
    /// written.
    pub(crate) async fn check(
        self: &Arc<Self>,
        request: CheckRequest,
    ) -> Result<SessionPage, Fault> {
        let follows = request.after.is_some();
        let (rows, next) = if request.selectors.is_empty() {
            self.discovery.wait_for_first_sweep().await;
            // In an order that does not change from page to page.
            let list = ListRequest {
                sort: Sort::Created,
                limit: request.limit,
                after: request.after,
                ..Default::default()
            };
            self.store.read(move |c| page::list(c, &list)).await?
        } else {
            let mut rows = Vec::new();
            for selector in &request.selectors {
                rows.push(self.resolve(selector).await?);
            }
            (rows, None)
        };
        let losses = if request.accept_losses { Losses::Accept } else { Losses::Doubt };
        let checked = self.discovery.check_all(rows, losses, follows).await?;
        let sessions = self.writers.with_live(checked).await?;
        let (discovering, unreadable) =
            (!self.discovery.has_swept(), self.homes.unreadable().await?);
        Ok(SessionPage { sessions, next, discovering, unreadable })
    }
}
