//! Runs clients that send requests without a pause, each on a new connection, until standard input
//! is closed; then prints the outcomes. Until then prints one line per 500 requests.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sessd_proto::client::{Client, ConnectError};
use sessd_proto::status::StatusRequest;

/// The number of requests between two lines.
const REQUESTS_PER_LINE: u64 = 500;

/// The results of the requests of all clients.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
    daemons: BTreeMap<u32, u64>,
    slowest: Duration,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket: PathBuf = arguments.next().unwrap_or_default().into();
    let clients = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let (over, tally) = (AtomicBool::new(false), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let outcome = ask(&socket);
                    let mut tally = tally.lock().unwrap_or_else(|broken| broken.into_inner());
                    let name = outcome.map_or_else(
                        |name| name,
                        |pid| {
                            *tally.daemons.entry(pid).or_default() += 1;
                            "answered"
                        },
                    );
                    *tally.outcomes.entry(name).or_default() += 1;
                    if tally.outcomes.values().sum::<u64>() % REQUESTS_PER_LINE == 0 {
                        let _ = writeln!(io::stdout(), "more");
                    }
                    tally.slowest = tally.slowest.max(started.elapsed());
                }
            });
        }
        let end = io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
        end
    })?;
    let tally = tally.into_inner().unwrap_or_else(|broken| broken.into_inner());
    let report = serde_json::json!({
        "outcomes": tally.outcomes,
        "daemons": tally.daemons.len(),
        "slowest_ms": tally.slowest.as_millis(),
    });
    writeln!(io::stdout(), "{report}")
}

/// Sends one request; returns the process id of the daemon, or the kind of failure.
fn ask(socket: &std::path::Path) -> Result<u32, &'static str> {
    match Client::connect(socket) {
        Ok(mut client) => client.status(StatusRequest {}).map(|it| it.pid).map_err(|_| "cut"),
        Err(ConnectError::NoDaemon(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "refused",
            _ => "cut",
        }),
        Err(ConnectError::Refused(_)) => Err("unanswered"),
        Err(ConnectError::Mismatch { .. }) => Err("mismatch"),
    }
}
