//! Turns as callers look at them: a page of all, one by its id, and what came of it so far.

use std::sync::Arc;
use std::time::Duration;

use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::turn::{
    SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnPage, TurnsRequest,
};
use sessd_proto::{Fault, FaultCode};

use super::Registry;
use crate::store::turns::{self as rows, Filter};

/// Output answered at once, in bytes; well below what a client accepts.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Registry {
    /// A page of turns.
    ///
    /// # Errors
    /// For a limit or a cursor that makes no sense, or when there is no such turn or session.
    pub async fn turns(self: &Arc<Self>, request: TurnsRequest) -> Result<TurnPage, Fault> {
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
            Fault::new(FaultCode::Usage, "this is no cursor").hint("take `next` of a page of turns")
        })?;
        let session_id = match &request.session {
            Some(selector) => Some(self.resolve(selector).await?.session.id),
            None => None,
        };
        let filter = Filter { session_id, state: request.state, before, limit };
        let (turns, next) = self.store.read(move |c| rows::page(c, &filter)).await?;
        Ok(TurnPage { turns, next: next.map(|next| next.to_string()) })
    }

    /// The one turn that an id or its beginning means.
    pub(super) async fn turn(&self, text: &str) -> Result<Turn, Fault> {
        let wanted = text.to_owned();
        let mut found = self.store.read(move |c| rows::find(c, &wanted)).await?;
        match found.len() {
            0 => Err(Fault::new(FaultCode::NotFound, format!("there is no turn `{text}`"))
                .hint("all of them: `sessctl turns`")),
            1 => Ok(found.swap_remove(0)),
            _ => {
                let ids: Vec<_> = found.iter().map(|turn| &*turn.id).collect();
                let what = format!("`{text}` means more than one turn");
                Err(Fault::new(FaultCode::Ambiguous, what).hint(ids.join("\n")))
            }
        }
    }

    /// Long poll for the output of a turn.
    ///
    /// # Errors
    /// When there is no such turn.
    pub async fn turn_output(
        self: &Arc<Self>,
        request: TurnOutputRequest,
    ) -> Result<TurnOutput, Fault> {
        let id = self.turn(&request.turn_id).await?.id;
        let mut changed = self.turns.changed.subscribe();
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
                let SendResponse { session, turn } = self.accepted(turn).await?;
                return Ok(TurnOutput { turn, events, session: Some(session) });
            }
            let waited = tokio::time::timeout_at(give_up, changed.changed());
            if !events.is_empty() || waited.await.is_err() {
                return Ok(TurnOutput { turn, events, session: None });
            }
        }
    }
}
