//! Waiting for a condition with a name and a deadline: the only place where tests sleep.

use std::thread;
use std::time::{Duration, Instant};

/// Ample for anything that works, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Polls until the condition holds and returns what it found. Panics, naming what was awaited,
/// when the deadline passes.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll(deadline, condition) {
        Some(found) => found,
        None => panic!("waited {deadline:?} for {what}, which did not come"),
    }
}

/// The same without the panic, for those who know more to say about a failure.
pub(crate) fn poll<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        // The clock is read first: the condition always gets one look after the deadline.
        let late = start.elapsed() > deadline;
        let found = condition();
        if found.is_some() || late {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lets time pass where time itself is the input, as between two keys or before a kill.
pub fn pause(duration: Duration) {
    thread::sleep(duration);
}
