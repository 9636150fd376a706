//! Timeouts for blocking disk calls.
//!
//! A system call on a dead disk (a network mount, a failing drive) cannot be cancelled: its thread
//! is lost until the disk answers. So each place that may hang has a gate of its own. A gate lets
//! at most [`CALLS_MAX`] calls in at the same time, and none while one of them is overdue; a disk
//! that hangs then costs a few threads for good and delays nothing else. A caller that goes away
//! does not free its slot: the call still runs. Knows no home and no directory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessd_proto::Fault;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Timeout for one check.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for listing a home's transcripts, or for reading a batch of them. A call that takes
/// longer goes on in the background, so that the next attempt finds warm caches.
pub(crate) const LISTING_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for lookups on an interactive path: live state, the project of a directory.
pub(crate) const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The most calls that one gate admits at the same time, and so the most threads that a hung disk
/// can cost.
const CALLS_MAX: usize = 4;

/// The reason why a call was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// A call is overdue: this one, or an earlier one that has not ended.
    Hangs,
    /// All slots were taken, but no call was overdue.
    Full,
}

/// Admits calls to one place that may hang.
#[derive(Debug)]
pub(crate) struct Gate {
    room: Arc<Semaphore>,
    /// The deadlines of all calls that have not ended.
    deadlines: Arc<Mutex<Vec<Instant>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(CALLS_MAX)), deadlines: Arc::default() }
    }
}

impl Gate {
    /// Runs a call on a blocking thread. Returns [`Unanswered`] if it does not end within `limit`,
    /// and at once while an earlier call is overdue.
    ///
    /// # Errors
    /// Fails if the call panics.
    pub(crate) async fn pass<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, Unanswered>, Fault> {
        let deadline = Instant::now() + limit;
        if self.hangs() {
            return Ok(Err(Unanswered::Hangs));
        }
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(permit)) = timeout_at(deadline, room).await else {
            let why = if self.hangs() { Unanswered::Hangs } else { Unanswered::Full };
            return Ok(Err(why));
        };
        let running = Running::new(&self.deadlines, deadline);
        let call = tokio::task::spawn_blocking(move || {
            // The slot stays taken until the call ends, even if the caller has gone away.
            let _permit = (running, permit);
            call()
        });
        match timeout_at(deadline, call).await {
            Ok(answer) => answer.map(Ok).map_err(Fault::internal),
            Err(_) => Ok(Err(Unanswered::Hangs)),
        }
    }

    /// True if no call is running.
    pub(crate) fn is_empty(&self) -> bool {
        self.room.available_permits() == CALLS_MAX
    }

    /// True while an overdue call has not ended.
    fn hangs(&self) -> bool {
        let deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        deadlines.iter().any(|deadline| *deadline <= Instant::now())
    }
}

/// A call that has not ended; dropping it removes its deadline.
struct Running {
    deadlines: Arc<Mutex<Vec<Instant>>>,
    own: Instant,
}

impl Running {
    fn new(deadlines: &Arc<Mutex<Vec<Instant>>>, own: Instant) -> Self {
        deadlines.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        Self { deadlines: Arc::clone(deadlines), own }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = deadlines.iter().position(|deadline| *deadline == self.own) {
            deadlines.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// Longer than any pause of the machine.
    const AMPLE: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn a_gate_that_hung_opens_again_once_the_call_ends() {
        let gate = Gate::default();
        let (answer, until_answered) = mpsc::channel::<()>();
        let hanging = gate.pass(SOON, move || until_answered.recv().is_ok()).await;
        assert_eq!(hanging.unwrap(), Err(Unanswered::Hangs));
        let asked = gate.pass(CHECK_TIMEOUT, || 1).await.unwrap();
        assert_eq!(asked, Err(Unanswered::Hangs), "asked while it hangs");
        answer.send(()).unwrap();
        while gate.hangs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(gate.pass(CHECK_TIMEOUT, || 2).await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn gate_full_is_not_reported_as_hung() {
        let (full, overdue) = (Gate::default(), Gate::default());
        let _answers = (fill(&full, AMPLE).await, fill(&overdue, SOON).await);
        assert_eq!(full.pass(SOON, || ()).await.unwrap(), Err(Unanswered::Full));
        while !overdue.hangs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(overdue.pass(SOON, || ()).await.unwrap(), Err(Unanswered::Hangs));
    }

    /// Fills every slot with a call whose caller goes away at once.
    async fn fill(gate: &Gate, limit: Duration) -> Vec<mpsc::Sender<()>> {
        let mut answers = Vec::new();
        for _ in 0..CALLS_MAX {
            let (answer, until_answered) = mpsc::channel::<()>();
            answers.push(answer);
            let call = gate.pass(limit, move || until_answered.recv().is_ok());
            let _ = tokio::time::timeout(SOON / 5, call).await;
        }
        answers
    }
}
