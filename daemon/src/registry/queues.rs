//! The queues of turns: one a session, run in order, written down while the answer arrives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Transaction;
use sessd_proto::turn::TurnState;
use sessd_proto::{Environment, Event, Fault, FaultCode, LaunchPlan};
use tokio::sync::{Semaphore, mpsc, watch};

use super::homes::KnownHome;
use super::turns::{cannot_send, turn_spec};
use super::{Registry, leases, starting};
use crate::clock::now;
use crate::process;
use crate::providers::{self, Provider};
use crate::runner::{Cause, Ended, Limits, Process};
use crate::store::leases::Lease;
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Group};

/// Lines that may wait to be written down before the provider has to.
const LINES_MAX: usize = 256;

/// Pause before what could not be written down is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Turns that wait for their place, by session.
#[derive(Debug)]
pub struct Queues {
    waiting: Mutex<HashMap<String, VecDeque<Waiting>>>,
    slots: HashMap<&'static str, Arc<Semaphore>>,
    /// Counts everything that followers of turns wait for.
    pub(super) changed: watch::Sender<u64>,
}

/// A turn that waits, with what is kept in memory only.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) turn_id: String,
    pub(super) prompt: String,
    pub(super) environment: Environment,
}

impl Queues {
    pub(super) fn new(per_provider: usize) -> Self {
        let slot =
            |provider: &&dyn Provider| (provider.id(), Arc::new(Semaphore::new(per_provider)));
        Self {
            waiting: Mutex::default(),
            slots: providers::ALL.iter().map(slot).collect(),
            changed: watch::Sender::new(0),
        }
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while turns of this session wait or run.
    pub(super) fn has(&self, session_id: &str) -> bool {
        self.waiting().contains_key(session_id)
    }

    pub(super) fn wake_followers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Registry {
    /// Puts a turn at the end of its session's queue, and starts the queue if it stood still.
    pub(super) fn wait_for_place(self: &Arc<Self>, session_id: String, waiting: Waiting) {
        let mut queues = self.turns.waiting();
        if let Some(queue) = queues.get_mut(&session_id) {
            queue.push_back(waiting);
            return;
        }
        queues.insert(session_id.clone(), [waiting].into());
        drop(queues);
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(next) = registry.next_waiting(&session_id) {
                let turn_id = next.turn_id.clone();
                let outcome = registry.run_turn(&session_id, next).await;
                registry.finish(turn_id, outcome).await;
            }
        });
    }

    /// The turn whose turn it is; the queue ends when there is none.
    fn next_waiting(&self, session_id: &str) -> Option<Waiting> {
        let mut queues = self.turns.waiting();
        let next = queues.get_mut(session_id).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(session_id);
        }
        next
    }

    async fn finish(&self, turn_id: String, outcome: Result<(), Fault>) {
        let state = if outcome.is_ok() { TurnState::Succeeded } else { TurnState::Failed };
        let (fault, at) = (outcome.err(), now());
        loop {
            let (id, fault) = (turn_id.clone(), fault.clone());
            let finish =
                move |tx: &Transaction<'_>| rows::finish(tx, &id, state, at, fault.as_ref());
            match self.store.promise(finish).await {
                Ok(()) => break,
                // The disk may be full: followers wait until there is room again.
                Err(error) => tracing::error!("cannot write down how a turn ended: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.turns.wake_followers();
    }

    async fn run_turn(self: &Arc<Self>, session_id: &str, waiting: Waiting) -> Result<(), Fault> {
        let id = session_id.to_owned();
        let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let row = row.ok_or_else(|| Fault::new(FaultCode::NotFound, "the session was deleted"))?;
        let known = self.home_of(&row).await?.ok_or_else(|| Fault::internal("no home"))?;
        let slots = self.turns.slots.get(known.provider.id()).cloned();
        let _slot = match slots {
            Some(slots) => slots.acquire_owned().await.ok(),
            None => None,
        };
        let live = self.live(&row).await?;
        if live.blocks() {
            return Err(leases::busy(&row.session, &live));
        }
        let spec = turn_spec(&row, self.launch(&row, &waiting.environment)?);
        let plan = known.provider.plan_turn(&known.home, &spec);
        let plan = plan.ok_or_else(|| cannot_send(known.provider.id()))?;
        let plan = self.completed(&known, &spec.launch, plan).await?;
        let ended = self.converse(&known, &row, plan, waiting).await;
        if let Err(fault) = self.sweep_home(&known).await {
            tracing::warn!("sweep after a turn: {fault}");
        }
        ended
    }

    /// Starts the provider and writes down what it says.
    async fn converse(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        plan: LaunchPlan,
        waiting: Waiting,
    ) -> Result<(), Fault> {
        let Waiting { turn_id, prompt, environment } = waiting;
        let mut base = self.env.clone();
        base.0.extend(environment.0);
        let child = Process::start(&plan, &base).map_err(|error| not_started(&plan, &error))?;
        match self.run_by(&turn_id, row, child.pid()).await {
            Ok(()) => {}
            // How it ended says more than that it did.
            Err(_) if process::start_ticks(child.pid()).is_none() => {}
            Err(fault) => {
                // Somebody was faster: it must end before it takes its closed input for a prompt.
                child.end().await;
                return Err(fault);
            }
        }
        self.turns.wake_followers();
        let limits = Limits {
            deadline: Duration::from_secs(self.config.turns.deadline_s),
            output_bytes_max: self.config.turns.output_bytes_max,
        };
        let (lines, incoming) = mpsc::channel(LINES_MAX);
        let talk = child.talk(prompt, limits, lines);
        let (ended, heard) =
            tokio::join!(talk, self.write_down(known.provider, row, &turn_id, incoming));
        // Its lease ends with it, or is seen to be dead where even that cannot be written down.
        judge(known.provider.id(), row, &ended, &heard?)
    }

    /// Gives a turn's process the lease of the session, and the turn its process.
    async fn run_by(self: &Arc<Self>, turn_id: &str, row: &Stored, pid: u32) -> Result<(), Fault> {
        let Lease { start_ticks, boot_id, .. } = self.lease(&row.session, pid, "turn").await?;
        let group = Group { pgid: pid, start_ticks, boot_id };
        let id = turn_id.to_owned();
        match self.store.promise(move |tx| rows::run(tx, &id, now(), &group)).await? {
            true => Ok(()),
            // The daemon has told everybody so already, as it is about to end.
            false => Err(Fault::new(FaultCode::ProviderFailed, "the turn was interrupted")),
        }
    }

    /// Decodes lines and appends their events, a batch at a time; answers the last events of
    /// the kinds that decide about success.
    async fn write_down(
        &self,
        provider: &'static dyn Provider,
        row: &Stored,
        turn_id: &str,
        mut lines: mpsc::Receiver<String>,
    ) -> Result<Heard, Fault> {
        let mut heard = Heard::default();
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, LINES_MAX).await > 0 {
            let decode = |line: String| provider.decode(&line);
            let stamp = |event| Event { at: now(), ..event };
            let events: Vec<Event> = batch.drain(..).flat_map(decode).map(stamp).collect();
            heard.listen(&events);
            let events = Arc::new(events);
            loop {
                let (id, events) = (turn_id.to_owned(), Arc::clone(&events));
                let (row, theirs) = (row.clone(), heard.provider_session_id.clone());
                let append = move |tx: &Transaction<'_>| {
                    // Before anybody reads the first word of it.
                    if let (None, Some(theirs)) = (&row.session.provider_session_id, theirs)
                        && !starting::bind(tx, &row, None, &theirs)?
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
        }
        Ok(heard)
    }
}

/// What a turn's events said about its success.
#[derive(Debug, Default)]
struct Heard {
    result: bool,
    error: Option<String>,
    provider_session_id: Option<String>,
}

impl Heard {
    fn listen(&mut self, events: &[Event]) {
        for event in events {
            match &*event.kind {
                "result" => self.result = true,
                "error" => self.error.clone_from(&event.text),
                "started" => {
                    let id = event.data.0["provider_session_id"].as_str();
                    self.provider_session_id = id.map(str::to_owned);
                }
                _ => {}
            }
        }
    }
}

/// Success is the exit code *and* the final event *and* the same session id.
fn judge(provider: &str, row: &Stored, ended: &Ended, heard: &Heard) -> Result<(), Fault> {
    let failed = |what: String| {
        let detail = heard.error.as_deref().unwrap_or(&ended.stderr);
        let what = if detail.is_empty() { what } else { format!("{what}: {detail}") };
        Err(Fault::new(FaultCode::ProviderFailed, what)
            .hint("the session is as it was; send the prompt again"))
    };
    match (ended.cause, ended.status) {
        (Some(Cause::Deadline), _) => {
            let what = format!("{provider} took too long and was ended");
            Err(Fault::new(FaultCode::Deadline, what).hint("longer: turns.deadline_s"))
        }
        (Some(Cause::Flood), _) => failed(format!("{provider} printed too much and was ended")),
        (Some(Cause::Io), _) => failed(format!("{provider} could not be read")),
        (None, None) => failed(format!("{provider} closed its output but did not end")),
        (None, Some(status)) if !status.success() => failed(format!("{provider} failed: {status}")),
        (None, Some(_)) if !heard.result => failed(format!("{provider} ended without a result")),
        (None, Some(_)) if answered_elsewhere(row, heard) => Err(answered_by_another(row)),
        (None, Some(_)) => Ok(()),
    }
}

fn answered_by_another(row: &Stored) -> Fault {
    let what = format!("{} answered in another session", row.session.provider);
    Fault::new(FaultCode::ProviderFailed, what).hint("what it has now: `sessctl list`")
}

/// Some begin a new session in silence when they do not know the one that was asked for.
fn answered_elsewhere(row: &Stored, heard: &Heard) -> bool {
    let asked = &row.session.provider_session_id;
    heard.provider_session_id.is_none() || asked.is_some() && heard.provider_session_id != *asked
}

fn not_started(plan: &LaunchPlan, error: &std::io::Error) -> Fault {
    let what = format!("cannot start {} in {}: {error}", plan.program, plan.cwd);
    Fault::new(FaultCode::ProviderUnavailable, what).hint("what the daemon sees: `sessctl doctor`")
}
