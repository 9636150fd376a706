//! Times the tests, for the list of the slowest ones that `.ci/run` prints. The test harness of
//! stable Rust cannot do that.

use std::env;
use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs while a test has something of its own (a sandbox, a systemd). When it is dropped, it
/// appends the test's name, start and end in milliseconds to the file that `SESSD_TEST_TIMES`
/// names. A test may have several: its time is from the first start to the last end.
pub(crate) struct Stopwatch {
    start: u128,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { start: now() }
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        let Some(path) = env::var_os("SESSD_TEST_TIMES") else { return };
        // The harness names each thread by its test; a test's own threads have no name.
        let Some(test) = thread::current().name().map(str::to_owned) else { return };
        if let Ok(mut file) = File::options().create(true).append(true).open(path) {
            let _ = file.write_all(format!("{test} {} {}\n", self.start, now()).as_bytes());
        }
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis())
}
