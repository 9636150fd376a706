//! Reading turns: list, look up by id, and long-poll their output. It must not know providers:
//! everything that it returns is stored.

use std::sync::Arc;
use std::time::Duration;

use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::turn::{
    SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnPage, TurnsRequest,
};
use sessd_proto::{Fault, FaultCode};

use super::Turns;
use crate::store::turns::{self as rows, Filter};

/// The most output in one response, in bytes; well below the largest frame a client accepts.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Turns {
    /// Returns a page of turns, newest first, or the one with the given id.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid limit or cursor, or if the turn or session is not found.
    pub(crate) async fn list(self: &Arc<Self>, request: TurnsRequest) -> Result<TurnPage, Fault> {
        if let Some(id) = &request.turn_id {
            return Ok(TurnPage { turns: vec![self.turn(id).await?], next: None });
        }
        let limit = match request.limit {
            0 => 50,
            limit @ 1..=500 => limit,
            _ => return Err(Fault::new(FaultCode::Usage, "a page has at most 500 turns")),
        };
        let before = request.after.as_deref().map(str::parse).transpose();
        let before = before.map_err(|_| {
            Fault::new(FaultCode::Usage, "invalid cursor").hint("use `next` of a page of turns")
        })?;
        let session_id = match &request.session {
            Some(selector) => Some(self.sessions.resolve(selector).await?.session.id),
            None => None,
        };
        let filter = Filter { session_id, state: request.state, before, limit };
        let (turns, next) = self.store.read(move |c| rows::page(c, &filter)).await?;
        Ok(TurnPage { turns, next: next.map(|next| next.to_string()) })
    }

    /// Returns the one turn with this id or unique prefix.
    ///
    /// # Errors
    /// Fails with `not_found` or `ambiguous`.
    pub(crate) async fn turn(&self, text: &str) -> Result<Turn, Fault> {
        let wanted = text.to_owned();
        let mut found = self.store.read(move |c| rows::find(c, &wanted)).await?;
        match found.len() {
            0 => Err(Fault::new(
                FaultCode::NotFound,
                format!("no turn has an id that starts with `{text}`"),
            )
            .hint("all turns: `sessctl turns`")),
            1 => Ok(found.swap_remove(0)),
            _ => {
                let ids: Vec<_> = found.iter().map(|turn| &*turn.id).collect();
                let what = format!("`{text}` means more than one turn");
                Err(Fault::new(FaultCode::Ambiguous, what).hint(ids.join("\n")))
            }
        }
    }

    /// Returns the output of a turn after a sequence number; waits up to `wait_ms` for more.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such turn.
    pub(crate) async fn output(
        self: &Arc<Self>,
        request: TurnOutputRequest,
    ) -> Result<TurnOutput, Fault> {
        let id = self.turn(&request.turn_id).await?.id;
        let mut changed = self.writers.queues.changed.subscribe();
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(WAIT_MS_MAX)));
        let give_up = tokio::time::Instant::now() + wait;
        loop {
            let (id, after) = (id.clone(), request.after);
            let (turn, (events, more)) = self
                .store
                .read(move |c| {
                    Ok((rows::by_id(c, &id)?, rows::output(c, &id, after, OUTPUT_BYTES_MAX)?))
                })
                .await?;
            let turn = turn.ok_or_else(|| Fault::internal("a turn vanished"))?;
            let done = turn.state.is_final() && !more;
            if done {
                let SendResponse { session, turn } = self.respond(turn).await?;
                return Ok(TurnOutput { turn, events, session: Some(session) });
            }
            let waited = tokio::time::timeout_at(give_up, changed.changed());
            if !events.is_empty() || waited.await.is_err() {
                return Ok(TurnOutput { turn, events, session: None });
            }
        }
    }
}
