//! Patience with disks that do not answer. A call that hangs cannot be ended and keeps its
//! thread, so few are let in at once, and none as long as one of them hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sessd_proto::Fault;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// How long one check may take.
pub(super) const CHECK: Duration = Duration::from_secs(5);

/// How long a home may take to list its transcripts, or to show a batch of them. One that takes
/// longer goes on meanwhile, and is asked again once it has ended: with warm caches.
pub(super) const LISTING: Duration = Duration::from_secs(10);

/// How long what a person waits for may take: who runs a session, which project a directory is.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// Calls that may be in one place at the same time, and threads that it may cost us for good.
const CALLS: usize = 4;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// A call is overdue: this one, or an earlier one that has not ended.
    Hangs,
    /// Others were in the place all the time, none of them for too long.
    Full,
}

/// The way into a place that may hang.
#[derive(Debug)]
pub(super) struct Gate {
    room: Arc<Semaphore>,
    /// When each call that has not ended should have.
    deadlines: Arc<Mutex<Vec<Instant>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(CALLS)), deadlines: Arc::default() }
    }
}

impl Gate {
    /// Runs a call on a thread where it may block; no answer if it does not end in time, and at
    /// once while an earlier one has not.
    pub(super) async fn pass<T: Send + 'static>(
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
            // Even when nobody waits for the answer any more, its place is taken until it ends.
            let _permit = (running, permit);
            call()
        });
        match timeout_at(deadline, call).await {
            Ok(answer) => answer.map(Ok).map_err(Fault::internal),
            Err(_) => Ok(Err(Unanswered::Hangs)),
        }
    }

    /// True while nobody is in the place.
    pub(super) fn is_empty(&self) -> bool {
        self.room.available_permits() == CALLS
    }

    /// True while a call that was too late has not ended.
    fn hangs(&self) -> bool {
        let deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        deadlines.iter().any(|deadline| *deadline <= Instant::now())
    }
}

/// A call that has not ended.
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

    /// Longer than any machine stands still.
    const AMPLE: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn a_place_that_hangs_is_asked_again_once_it_answers() {
        let gate = Gate::default();
        let (answer, until_answered) = mpsc::channel::<()>();
        let hanging = gate.pass(SOON, move || until_answered.recv().is_ok()).await;
        assert_eq!(hanging.unwrap(), Err(Unanswered::Hangs));
        let asked = gate.pass(CHECK, || 1).await.unwrap();
        assert_eq!(asked, Err(Unanswered::Hangs), "asked while it hangs");
        answer.send(()).unwrap();
        while gate.hangs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(gate.pass(CHECK, || 2).await.unwrap(), Ok(2));
    }

    #[tokio::test]
    async fn callers_that_go_away_make_no_room_and_a_place_that_is_full_does_not_hang() {
        let (full, overdue) = (Gate::default(), Gate::default());
        let _answers = (fill(&full, AMPLE).await, fill(&overdue, SOON).await);
        assert_eq!(full.pass(SOON, || ()).await.unwrap(), Err(Unanswered::Full));
        while !overdue.hangs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(overdue.pass(SOON, || ()).await.unwrap(), Err(Unanswered::Hangs));
    }

    /// As many calls as there is room for, whose callers go away at once.
    async fn fill(gate: &Gate, limit: Duration) -> Vec<mpsc::Sender<()>> {
        let mut answers = Vec::new();
        for _ in 0..CALLS {
            let (answer, until_answered) = mpsc::channel::<()>();
            answers.push(answer);
            let call = gate.pass(limit, move || until_answered.recv().is_ok());
            let _ = tokio::time::timeout(SOON / 5, call).await;
        }
        answers
    }
}
