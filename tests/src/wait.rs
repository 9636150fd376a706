//! Waiting for a condition with a name and a deadline: the only place where tests sleep.

use std::thread;
use std::time::{Duration, Instant};

/// The deadline of every wait that should succeed: enough for a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Polls until the condition returns something, and returns that. Panics with `what` if the
/// deadline passes.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll(deadline, condition) {
        Some(found) => found,
        None => panic!("waited {deadline:?} for {what}, which did not come"),
    }
}

/// Like [`wait_until`], but returns `None` at the deadline, for callers with a better message.
pub(crate) fn poll<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        // The clock is read first: the condition is always tested once more after the deadline.
        let late = start.elapsed() > deadline;
        let found = condition();
        if found.is_some() || late {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sleeps where time itself is the input, for example between two keys or before a kill.
pub fn pause(duration: Duration) {
    thread::sleep(duration);
}
