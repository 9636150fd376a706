//! In-memory turn queues, one per session, or per transcript if two sessions share one: the
//! waiting turns, the running one, and the signal that stops it early.
//! Runs nothing and stores nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sessd_proto::{Environment, Fault, FaultCode};
use tokio::sync::{Semaphore, watch};

use crate::providers::{self, Provider};

/// Turns that wait or run, by session.
#[derive(Debug)]
pub(crate) struct Queues {
    by_session: Mutex<HashMap<String, Queue>>,
    /// The session whose queue a twin uses.
    twins: Mutex<HashMap<String, String>>,
    /// Slots for turns that run at the same time, by provider.
    pub(crate) slots: HashMap<&'static str, Arc<Semaphore>>,
    /// Set during shutdown: no further turn is started.
    ending: AtomicBool,
    /// Incremented whenever a turn's state or output changes; followers wait for it.
    pub(crate) changed: watch::Sender<u64>,
}

/// The turns of one session.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The turn that was popped last; it may still wait for a slot or for the session.
    current: Option<Current>,
}

/// The current turn of a session, and the way to stop it.
#[derive(Debug)]
struct Current {
    turn_id: String,
    stop: watch::Sender<Option<Stop>>,
}

/// The reason why a turn is stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A caller cancelled it.
    Cancelled,
    /// The daemon is shutting down.
    Interrupted,
}

/// A waiting turn: the part of it that is only in memory. The rest is in the store.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) session_id: String,
    pub(crate) turn_id: String,
    pub(crate) environment: Environment,
    /// True for the first turn of a session: there is no transcript to check yet.
    pub(crate) is_first: bool,
}

/// A turn that was popped from its queue to be run.
pub(crate) struct Run {
    pub(crate) session_id: String,
    pub(crate) turn_id: String,
    pub(crate) environment: Environment,
    pub(crate) is_first: bool,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
}

impl Queues {
    /// Creates empty queues with at most `per_provider` slots for each provider, fewer where the
    /// provider allows fewer.
    pub(crate) fn new(per_provider: usize) -> Self {
        let slot = |provider: &&dyn Provider| {
            let turns = provider.turns();
            let at_once =
                turns.map_or(per_provider, |turns| per_provider.min(turns.max_concurrent()));
            (provider.id(), Arc::new(Semaphore::new(at_once)))
        };
        Self {
            by_session: Mutex::default(),
            twins: Mutex::default(),
            slots: providers::ALL.iter().map(slot).collect(),
            ending: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the sessions that share a queue, each with the one that names it. A session whose turns
    /// wait or run stays in the queue that they are in, until this is called again.
    pub(crate) fn set_twins(&self, mut twins: HashMap<String, String>) {
        let queues = self.queues();
        let mut before = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        let known: HashSet<String> = before.keys().chain(twins.keys()).cloned().collect();
        for id in known {
            let old = before.get(&id).unwrap_or(&id);
            if queues.contains_key(old) && twins.get(&id).unwrap_or(&id) != old {
                twins.insert(id.clone(), old.clone());
            }
        }
        *before = twins;
    }

    /// True if any sessions share a queue.
    pub(crate) fn have_twins(&self) -> bool {
        !self.twins.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns the name of the queue of a session.
    fn name(&self, session_id: &str) -> String {
        let twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        twins.get(session_id).map_or(session_id, String::as_str).to_owned()
    }

    /// True while turns of this session wait or run.
    pub(crate) fn has(&self, session_id: &str) -> bool {
        self.queues().contains_key(&self.name(session_id))
    }

    /// True while turns wait or run.
    pub(crate) fn has_any(&self) -> bool {
        !self.queues().is_empty()
    }

    /// Returns the current turn of a session if no other turn waits behind it.
    pub(crate) fn sole_current(&self, session_id: &str) -> Option<String> {
        let (queues, name) = (self.queues(), self.name(session_id));
        let queue = queues.get(&name).filter(|queue| queue.waiting.is_empty())?;
        queue.current.as_ref().map(|current| current.turn_id.clone())
    }

    /// Wakes every long poll that waits for a turn.
    pub(crate) fn wake_followers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Removes a waiting turn from its queue; `false` if it is not waiting there.
    pub(crate) fn remove(&self, session_id: &str, turn_id: &str) -> bool {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(&self.name(session_id)) else { return false };
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.turn_id != turn_id);
        queue.waiting.len() < before
    }

    /// Asks the current turn of a session to stop; with `turn_id`, only if that is the one.
    pub(crate) fn stop_current(&self, session_id: &str, turn_id: Option<&str>) {
        let queues = self.queues();
        let current = queues.get(&self.name(session_id)).and_then(|queue| queue.current.as_ref());
        if let Some(current) = current.filter(|it| turn_id.is_none_or(|id| id == it.turn_id)) {
            current.stop.send_replace(Some(Stop::Cancelled));
        }
    }

    /// Asks every current turn to stop, drops all waiting ones, and starts no more.
    pub(crate) fn stop_all(&self) {
        self.ending.store(true, Ordering::Relaxed);
        for queue in self.queues().values_mut() {
            queue.waiting.clear();
            if let Some(current) = &queue.current {
                current.stop.send_replace(Some(Stop::Interrupted));
            }
        }
    }

    /// Appends a turn to its session's queue; returns the name of that queue if it was idle and
    /// must be run.
    pub(crate) fn push(&self, waiting: Waiting) -> Option<String> {
        let mut queues = self.queues();
        if self.ending.load(Ordering::Relaxed) {
            return None;
        }
        let name = self.name(&waiting.session_id);
        let was_idle = !queues.contains_key(&name);
        queues.entry(name.clone()).or_default().waiting.push_back(waiting);
        was_idle.then_some(name)
    }

    /// Pops the next turn of a queue and makes it the current one; drops the queue when it is
    /// empty.
    pub(crate) fn next(&self, queue_name: &str) -> Option<Run> {
        let mut queues = self.queues();
        let queue = queues.get_mut(queue_name)?;
        let Some(waiting) = queue.waiting.pop_front() else {
            queues.remove(queue_name);
            return None;
        };
        let Waiting { session_id, turn_id, environment, is_first } = waiting;
        let (stop, stopped) = watch::channel(None);
        queue.current = Some(Current { turn_id: turn_id.clone(), stop });
        Some(Run { session_id, turn_id, environment, is_first, stop: stopped })
    }
}

/// Waits until a turn is asked to stop and returns the fault that says why.
pub(crate) async fn wait_for_stop(stop: &mut watch::Receiver<Option<Stop>>) -> Fault {
    let why = stop.wait_for(Option::is_some).await.ok().and_then(|why| *why);
    match why {
        Some(why) => why.fault(),
        // The queue is gone, so nothing can stop the turn any more.
        None => std::future::pending().await,
    }
}

impl Stop {
    /// Returns the fault that a turn stopped for this reason ends with.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Cancelled => Fault::new(FaultCode::Cancelled, "the turn was cancelled"),
            Self::Interrupted => interrupted("the daemon ended in the middle"),
        }
    }
}

/// The fault of a turn that ended because its daemon did.
pub(crate) fn interrupted(why: &str) -> Fault {
    Fault::new(FaultCode::Interrupted, format!("the turn was interrupted: {why}"))
        .hint("what came of it is kept; send the prompt again")
}
