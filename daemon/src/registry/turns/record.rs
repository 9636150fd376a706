//! Records a turn's output: decodes lines into events and stores them as they stream in. It must
//! not decide whether the turn succeeded: that is `outcome`.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Transaction;
use sessd_proto::{Event, EventType, Fault};
use tokio::sync::mpsc;

use super::Turns;
use super::outcome::{TurnSignals, answered_by_another};
use crate::clock::now;
use crate::providers::Provider;
use crate::redact::Secrets;
use crate::redact::stream::StreamRedactor;
use crate::registry::discovery::bind;
use crate::store::sessions::Stored;
use crate::store::turns as rows;

/// Pause before a failed write is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Context for recording one turn: provider, session, redaction, and whether raw lines are kept.
pub(crate) struct Recording<'a> {
    pub(crate) provider: &'static dyn Provider,
    pub(crate) row: &'a Stored,
    pub(crate) turn_id: &'a str,
    /// True if the undecoded lines are stored too.
    pub(crate) raw: bool,
    pub(crate) secrets: &'a Secrets,
}

impl Turns {
    /// Decodes lines and stores their events, a batch at a time. Returns the signals that decide
    /// whether the turn succeeded.
    ///
    /// # Errors
    /// Fails if the provider answers in another session, or if the registry cannot be written.
    pub(crate) async fn record(
        &self,
        recording: &Recording<'_>,
        mut lines: mpsc::Receiver<Vec<String>>,
    ) -> Result<TurnSignals, Fault> {
        let mut signals = TurnSignals::default();
        let mut redactor = StreamRedactor::new(recording.secrets);
        while let Some(batch) = lines.recv().await {
            let events = batch.into_iter().flat_map(|line| recording.decode(line));
            let events = events.flat_map(|event| redactor.pass(event)).collect();
            self.append(recording, &mut signals, events).await?;
        }
        self.append(recording, &mut signals, redactor.finish().into_iter().collect()).await?;
        Ok(signals)
    }

    async fn append(
        &self,
        recording: &Recording<'_>,
        signals: &mut TurnSignals,
        mut events: Vec<Event>,
    ) -> Result<(), Fault> {
        if events.is_empty() {
            return Ok(());
        }
        events.iter_mut().for_each(|event| event.at = now());
        signals.note(&events);
        if signals.is_elsewhere(recording.row) {
            // Ending the recording closes the provider's output, which ends it.
            return Err(answered_by_another(recording.row));
        }
        let events = Arc::new(events);
        loop {
            let (id, events) = (recording.turn_id.to_owned(), Arc::clone(&events));
            let (row, theirs) = (recording.row.clone(), signals.provider_session_id.clone());
            let append = move |tx: &Transaction<'_>| {
                // Bind before any caller can read the first word of the answer.
                if let (None, Some(theirs)) = (&row.session.provider_session_id, theirs)
                    && !bind::bind(tx, &row, None, &theirs)?
                {
                    return Err(answered_by_another(&row).into());
                }
                rows::append_output(tx, &id, &events)
            };
            match self.store.write(append).await {
                // The disk is full: the provider waits with us, and its deadline keeps running.
                Err(error) if error.is_full() => tokio::time::sleep(RETRY_PAUSE).await,
                result => break result?,
            }
        }
        self.writers.queues.wake_followers();
        Ok(())
    }
}

impl Recording<'_> {
    fn decode(&self, line: String) -> impl Iterator<Item = Event> + use<> {
        let line = self.secrets.hide(line);
        let events = self.provider.turns().map(|turns| turns.decode(&line)).unwrap_or_default();
        let own = Event { kind: EventType::Raw, text: Some(line), ..Event::default() };
        self.raw.then_some(own).into_iter().chain(events)
    }
}
