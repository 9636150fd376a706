//! A call through the whole stack, beside a plain tokio echo of 64 bytes.
//!
//! The call is `environment`, which `sessctl resume` and `send` make first: of the real calls
//! the one with the least work behind it, as it asks neither disk nor store. Nothing is taken
//! off for what it carries: 33 bytes there, and some 850 bytes of names back, all of them
//! encoded, decoded and allocated on both sides, while the echo copies 64 bytes each way.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sessd_proto::client::Client;
use sessd_proto::launch::EnvironmentRequest;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::timing::{Subject, medians, ratio, us};
use crate::{BINARIES, row};

const ECHO: &str = "SESSD_BENCH_ECHO";
const ROUNDS: usize = 20_000;

/// The socket on which this process shall only echo.
pub(crate) fn asked_to_echo() -> Option<PathBuf> {
    std::env::var_os(ECHO).map(PathBuf::from)
}

/// Echoes 64 bytes at a time, on one thread, without end.
pub(crate) fn echo(socket: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 64];
        while stream.read_exact(&mut bytes).await.is_ok() {
            stream.write_all(&bytes).await.unwrap();
        }
    });
}

/// On one core both ways, so that the figure is the software's and not that of waking another
/// core, which is larger than either.
pub(crate) fn round_trip() {
    let everywhere = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| everywhere.is_set(*cpu)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    measure();
    sched_setaffinity(None, &everywhere).unwrap();
}

fn measure() {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let socket = sandbox.home().join("echo.sock");
    let mut server = Command::new(std::env::current_exe().unwrap())
        .env(ECHO, &socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Duration::from_secs(10);
    let mut plain = wait_until("the echo", deadline, || UnixStream::connect(&socket).ok());
    let mut client = Client::connect(&sandbox.runtime_dir().join("sessd/sessd.sock")).unwrap();
    let mut bytes = [0; 64];
    let mut subjects = [
        Subject::new("plain", || {
            plain.write_all(&[7; 64]).unwrap();
            plain.read_exact(&mut bytes).unwrap();
        }),
        Subject::new("rpc", || {
            client.environment(EnvironmentRequest {}).unwrap();
        }),
    ];
    let times = medians(&mut subjects, ROUNDS);
    drop(subjects);
    server.kill().unwrap();
    server.wait().unwrap();
    let measured = format!("{:.2} × ({})", ratio(times[1], times[0]), us(times[1]));
    row("RPC round trip ÷ plain tokio echo", "one core", &measured, "≤ 2");
}
