//! Open connections: how many there may be, which one is closed to make room, and when all of
//! them are quiet so that the daemon can exit. Knows no dialect.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Open connections; for one more, the one that has been idle longest is closed.
const CONNECTIONS_MAX: usize = 256;

/// How often other tasks get to run, so that connections can end by themselves, before one is
/// closed to make room.
const YIELDS_MAX: u32 = 4;

/// Idle time after which a connection counts as quiet during shutdown.
const QUIET_PERIOD: Duration = Duration::from_millis(200);

/// The same once [`QUIET_PERIOD_LIMIT`] has passed: time for the last answer to be sent.
const FLUSH_PERIOD: Duration = Duration::from_millis(20);

/// How long into a shutdown [`QUIET_PERIOD`] applies; clients that keep asking get no more.
const QUIET_PERIOD_LIMIT: Duration = Duration::from_secs(1);

/// How often a shutdown looks for connections that are still in use.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Every open connection.
#[derive(Default)]
pub(super) struct Connections {
    last_id: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    task: AbortHandle,
    traffic: Arc<Traffic>,
}

/// Counts the requests of one connection, and notes its last event.
pub(super) struct Traffic {
    in_flight: AtomicUsize,
    last_event: Mutex<Instant>,
}

impl Connections {
    /// Runs a conversation with a client in a task of its own, if there is room for it.
    pub(super) async fn add<F>(self: &Arc<Self>, converse: impl FnOnce(Arc<Traffic>) -> F)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        if !self.make_room().await {
            return;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::new(Traffic::new());
        let all = Arc::clone(self);
        let conversation = converse(Arc::clone(&traffic));
        let mut open = self.open();
        let task = tokio::spawn(async move {
            // A panic in one connection must not reach the others.
            match AssertUnwindSafe(conversation).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("connection {id}: {error}"),
                Err(_) => tracing::error!("connection {id} panicked"),
            }
            all.open().remove(&id);
        });
        open.insert(id, Open { task: task.abort_handle(), traffic });
    }

    /// Closes the connection that has been idle longest; false if all have requests in flight.
    pub(super) fn close_idlest(&self) -> bool {
        let mut open = self.open();
        let idle = open.iter().filter(|(_, open)| open.traffic.is_idle());
        let oldest = idle.min_by_key(|(_, open)| open.traffic.last_event()).map(|(id, _)| *id);
        let closed = oldest.and_then(|id| open.remove(&id));
        if let Some(closed) = &closed {
            closed.task.abort();
        }
        closed.is_some()
    }

    /// Returns once no connection has a request in flight or is about to send one.
    pub(super) async fn wait_until_drained(&self) {
        let started = Instant::now();
        loop {
            let is_early = started.elapsed() < QUIET_PERIOD_LIMIT;
            let period = if is_early { QUIET_PERIOD } else { FLUSH_PERIOD };
            if self.open().values().all(|open| open.traffic.is_quiet(period)) {
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// True if there is room for one more connection; closes the idlest one if need be.
    async fn make_room(&self) -> bool {
        for _ in 0..YIELDS_MAX {
            if self.open().len() < CONNECTIONS_MAX {
                return true;
            }
            // Many clients may have hung up while we only accepted: let those tasks end first.
            tokio::task::yield_now().await;
        }
        self.close_idlest()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traffic {
    fn new() -> Self {
        Self { in_flight: AtomicUsize::new(0), last_event: Mutex::new(Instant::now()) }
    }

    /// Returns a future that runs a request. The request counts as in flight from now on, before
    /// the future is first polled, until it ends: a daemon that drains must wait for it.
    pub(super) fn run(
        self: Arc<Self>,
        request: impl Future<Output = ()>,
    ) -> impl Future<Output = ()> {
        self.touch();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        async move {
            request.await;
            self.touch();
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// True if nothing has happened for this long.
    fn is_quiet(&self, period: Duration) -> bool {
        self.is_idle() && self.last_event().elapsed() > period
    }

    /// Returns when the client was last accepted, asked something or was answered.
    fn last_event(&self) -> Instant {
        *self.last_event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.last_event.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn request_counts_as_in_flight_before_it_is_polled() {
        let traffic = Arc::new(Traffic::new());
        let request = Arc::clone(&traffic).run(async {});
        assert!(!traffic.is_idle());
        request.await;
        assert!(traffic.is_idle());
    }
}
