//! Patience with disks that do not answer. A call that hangs cannot be ended and keeps its
//! thread, so few are let in at once, and none as long as one of them hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
const CALLS: u32 = 3;

/// The way into a place that may hang.
#[derive(Debug)]
pub(super) struct Gate {
    room: Arc<Semaphore>,
    late: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(CALLS as usize)), late: AtomicBool::new(false) }
    }
}

impl Gate {
    /// Runs a call on a thread where it may block; `None` if it does not end in time, and at
    /// once while an earlier one has not.
    pub(super) async fn pass<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let deadline = Instant::now() + limit;
        if self.hangs() {
            return Ok(None);
        }
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(permit)) = timeout_at(deadline, room).await else { return Ok(None) };
        let call = tokio::task::spawn_blocking(move || {
            // Even when nobody waits for the answer any more, its place is taken until it ends.
            let _permit = permit;
            call()
        });
        match timeout_at(deadline, call).await {
            Ok(answer) => {
                self.late.store(false, Ordering::Relaxed);
                answer.map(Some).map_err(Fault::internal)
            }
            Err(_) => {
                self.late.store(true, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    /// True while a call that was too late has not ended.
    fn hangs(&self) -> bool {
        self.late.load(Ordering::Relaxed) && self.room.available_permits() < CALLS as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_place_that_hangs_is_asked_again_once_it_answers() {
        let gate = Gate::default();
        let (answer, until_answered) = mpsc::channel::<()>();
        let hanging = gate.pass(SOON, move || until_answered.recv().is_ok()).await;
        assert_eq!(hanging.unwrap(), None);
        assert_eq!(gate.pass(CHECK, || 1).await.unwrap(), None, "asked while it hangs");
        answer.send(()).unwrap();
        while gate.hangs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(gate.pass(CHECK, || 2).await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn callers_that_go_away_do_not_make_room() {
        let gate = Gate::default();
        let mut answers = Vec::new();
        for _ in 0..CALLS {
            let (answer, until_answered) = mpsc::channel::<()>();
            answers.push(answer);
            let call = gate.pass(CHECK, move || until_answered.recv().is_ok());
            assert!(tokio::time::timeout(SOON, call).await.is_err());
        }
        assert_eq!(gate.pass(SOON, || ()).await.unwrap(), None);
        drop(answers);
    }
}
