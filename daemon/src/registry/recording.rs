//! What an agent says, written down while it says it.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Transaction;
use sessd_proto::{Event, Fault};
use tokio::sync::mpsc;

use super::outcomes::{Heard, answered_by_another};
use super::pieces::Pieces;
use super::secrets::Secrets;
use super::{Registry, binding};
use crate::clock::now;
use crate::providers::Provider;
use crate::store::sessions::Stored;
use crate::store::turns as rows;

/// Pause before what could not be written down is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Whose words they are, and what becomes of them.
pub(super) struct Recording<'a> {
    pub(super) provider: &'static dyn Provider,
    pub(super) row: &'a Stored,
    pub(super) turn_id: &'a str,
    /// Whether the lines themselves are kept, too.
    pub(super) raw: bool,
    pub(super) secrets: &'a Secrets,
}

impl Registry {
    /// Decodes lines and appends their events, a batch at a time; answers the last events of
    /// the kinds that decide about success.
    pub(super) async fn record(
        &self,
        recording: &Recording<'_>,
        mut lines: mpsc::Receiver<Vec<String>>,
    ) -> Result<Heard, Fault> {
        let mut heard = Heard::default();
        let mut pieces = Pieces::new(recording.secrets);
        while let Some(batch) = lines.recv().await {
            let events = batch.into_iter().flat_map(|line| recording.decode(line));
            let events = events.flat_map(|event| pieces.pass(event)).collect();
            self.append(recording, &mut heard, events).await?;
        }
        self.append(recording, &mut heard, pieces.rest().into_iter().collect()).await?;
        Ok(heard)
    }

    async fn append(
        &self,
        recording: &Recording<'_>,
        heard: &mut Heard,
        mut events: Vec<Event>,
    ) -> Result<(), Fault> {
        if events.is_empty() {
            return Ok(());
        }
        events.iter_mut().for_each(|event| event.at = now());
        heard.listen(&events);
        if heard.is_elsewhere(recording.row) {
            // Nobody listens any more, so it is ended.
            return Err(answered_by_another(recording.row));
        }
        let events = Arc::new(events);
        loop {
            let (id, events) = (recording.turn_id.to_owned(), Arc::clone(&events));
            let (row, theirs) = (recording.row.clone(), heard.provider_session_id.clone());
            let append = move |tx: &Transaction<'_>| {
                // Before anybody reads the first word of it.
                if let (None, Some(theirs)) = (&row.session.provider_session_id, theirs)
                    && !binding::bind(tx, &row, None, &theirs)?
                {
                    return Err(answered_by_another(&row).into());
                }
                rows::append_output(tx, &id, &events)
            };
            match self.store.write(append).await {
                // The provider waits with us for room; its deadline goes on.
                Err(error) if error.is_full() => tokio::time::sleep(RETRY).await,
                result => break result?,
            }
        }
        self.turns.wake_followers();
        Ok(())
    }
}

impl Recording<'_> {
    fn decode(&self, line: String) -> impl Iterator<Item = Event> + use<> {
        let line = self.secrets.hide(line);
        let events = self.provider.turns().map(|turns| turns.decode(&line)).unwrap_or_default();
        let own = Event { kind: "raw".to_owned(), text: Some(line), ..Event::default() };
        self.raw.then_some(own).into_iter().chain(events)
    }
}
