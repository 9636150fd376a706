//! The queues of turns, one a session: who waits, whose turn it is, and how that one is ended
//! before its time. Runs nothing and writes nothing down.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sessd_proto::{Environment, Fault, FaultCode};
use tokio::sync::{Semaphore, watch};

use crate::providers::{self, Provider};

/// Turns that wait for their place or run, by session.
#[derive(Debug)]
pub(super) struct Queues {
    sessions: Mutex<HashMap<String, Queue>>,
    pub(super) slots: HashMap<&'static str, Arc<Semaphore>>,
    /// From then on nothing begins any more.
    ending: AtomicBool,
    /// Counts everything that followers of turns wait for.
    pub(super) changed: watch::Sender<u64>,
}

/// The turns of one session.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The one whose turn it is.
    current: Option<Current>,
}

/// The turn whose turn it is, and how it is ended before its time.
#[derive(Debug)]
struct Current {
    turn_id: String,
    stop: watch::Sender<Option<Stop>>,
}

/// Why a turn is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The daemon ends.
    Interrupted,
}

/// A turn that waits, with what is in memory only; the rest is written down.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) turn_id: String,
    pub(super) environment: Environment,
    /// Whether it is the first of its session, so that there is nothing yet to be found.
    pub(super) begins: bool,
}

/// What a turn is run with.
pub(super) struct Run {
    pub(super) turn_id: String,
    pub(super) environment: Environment,
    pub(super) begins: bool,
    pub(super) stop: watch::Receiver<Option<Stop>>,
}

impl Queues {
    pub(super) fn new(per_provider: usize) -> Self {
        let slot = |provider: &&dyn Provider| {
            let at_once = provider
                .turns()
                .map_or(per_provider, |turns| per_provider.min(turns.max_concurrent()));
            (provider.id(), Arc::new(Semaphore::new(at_once)))
        };
        Self {
            sessions: Mutex::default(),
            slots: providers::ALL.iter().map(slot).collect(),
            ending: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while turns of this session wait or run.
    pub(super) fn has(&self, session_id: &str) -> bool {
        self.sessions().contains_key(session_id)
    }

    /// True while turns wait or run.
    pub(super) fn has_any(&self) -> bool {
        !self.sessions().is_empty()
    }

    /// The turn of a session whose turn it is, if none waits behind it.
    pub(super) fn only_one(&self, session_id: &str) -> Option<String> {
        let sessions = self.sessions();
        let queue = sessions.get(session_id).filter(|queue| queue.waiting.is_empty())?;
        queue.current.as_ref().map(|current| current.turn_id.clone())
    }

    pub(super) fn wake_followers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes a turn out of its queue; `false` if it does not wait there.
    pub(super) fn take_out(&self, session_id: &str, turn_id: &str) -> bool {
        let mut sessions = self.sessions();
        let Some(queue) = sessions.get_mut(session_id) else { return false };
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.turn_id != turn_id);
        queue.waiting.len() < before
    }

    /// Has the turn of a session end whose turn it is: this one, or whichever it is.
    pub(super) fn stop_current(&self, session_id: &str, turn_id: Option<&str>) {
        let sessions = self.sessions();
        let current = sessions.get(session_id).and_then(|queue| queue.current.as_ref());
        if let Some(current) = current.filter(|it| turn_id.is_none_or(|id| id == it.turn_id)) {
            current.stop.send_replace(Some(Stop::Cancelled));
        }
    }

    /// Has every turn end that runs, forgets those that wait, and lets none begin.
    pub(super) fn stop_all(&self) {
        self.ending.store(true, Ordering::Relaxed);
        for queue in self.sessions().values_mut() {
            queue.waiting.clear();
            if let Some(current) = &queue.current {
                current.stop.send_replace(Some(Stop::Interrupted));
            }
        }
    }

    /// Puts a turn at the end of its session's queue; `true` if that stood still.
    pub(super) fn push(&self, session_id: &str, waiting: Waiting) -> bool {
        let mut sessions = self.sessions();
        if self.ending.load(Ordering::Relaxed) {
            return false;
        }
        let stood_still = !sessions.contains_key(session_id);
        sessions.entry(session_id.to_owned()).or_default().waiting.push_back(waiting);
        stood_still
    }

    /// The turn whose turn it is; the queue ends when there is none.
    pub(super) fn next(&self, session_id: &str) -> Option<Run> {
        let mut sessions = self.sessions();
        let queue = sessions.get_mut(session_id)?;
        let Some(Waiting { turn_id, environment, begins }) = queue.waiting.pop_front() else {
            sessions.remove(session_id);
            return None;
        };
        let (stop, stopped) = watch::channel(None);
        queue.current = Some(Current { turn_id: turn_id.clone(), stop });
        Some(Run { turn_id, environment, begins, stop: stopped })
    }
}

/// Returns when a turn is to end before its time, and says why.
pub(super) async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Fault {
    let why = stop.wait_for(Option::is_some).await.ok().and_then(|why| *why);
    match why {
        Some(why) => why.fault(),
        // Nobody can stop it any more.
        None => std::future::pending().await,
    }
}

impl Stop {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Cancelled => Fault::new(FaultCode::Cancelled, "the turn was cancelled"),
            Self::Interrupted => interrupted("the daemon ended in the middle"),
        }
    }
}

/// A turn that ended with its daemon.
pub(super) fn interrupted(why: &str) -> Fault {
    Fault::new(FaultCode::Interrupted, format!("the turn was interrupted: {why}"))
        .hint("what came of it is kept; send the prompt again")
}
