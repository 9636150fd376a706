//! The accept loop of the daemon's socket. The first byte of a connection decides its dialect,
//! and is read before anything is written. Knows no RPC and no registry.
//!
//! - `0x00`: a preface, then tarpc and bincode (`tarpc`).
//! - `A`–`Z`: HTTP, and `{`: JSON-RPC; both are answered with a refusal for now (`refusal`).
//! - Anything else: the connection is closed without an answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sessd_proto::peer::Peer;
use sessd_proto::preface;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::supervisor::Supervisor;

mod connections;
mod dispatch;
mod refusal;
mod service;
pub mod socket;
mod tarpc;

use connections::{Connections, Traffic};
use dispatch::Dispatch;
pub use service::{Service, State};
use socket::Socket;

/// A client sends its first byte, and the whole of a preface, within this time.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before accepting again when the process has run out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Interval for checking that the socket path still points to our socket.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watchdog interval when no watchdog is configured: effectively never.
const WATCHDOG_OFF: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long requests in flight may take when the daemon is told to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Serves until the service ends, then waits for the requests in flight.
pub async fn serve(service: Arc<Service>, mut socket: Socket, supervisor: &Supervisor) {
    let connections = Arc::new(Connections::default());
    accept(&service, &mut socket, supervisor, &connections).await;
    supervisor.tell_ending();
    socket.release();
    // Interrupt turns first; otherwise clients following them would block the drain.
    if let Ok((registry, _)) = service.ready()
        && let Err(fault) = registry.turns.interrupt_all().await
    {
        tracing::error!("cannot interrupt turns: {fault}");
    }
    let _ = timeout(SHUTDOWN_GRACE, connections.wait_until_drained()).await;
}

/// Accepts connections until the service ends or the socket's name is lost for good.
async fn accept(
    service: &Arc<Service>,
    socket: &mut Socket,
    supervisor: &Supervisor,
    connections: &Arc<Connections>,
) {
    let converse = |stream| {
        let service = Arc::clone(service);
        move |traffic| converse(service, stream, traffic)
    };
    let mut ending = service.ending();
    let mut check = tokio::time::interval(SOCKET_CHECK_INTERVAL);
    // Sent from this very loop: if it hangs, the watchdog must notice.
    let mut pulse = tokio::time::interval(supervisor.pulse().unwrap_or(WATCHDOG_OFF));
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            _ = pulse.tick() => supervisor.tell_alive(),
            _ = check.tick() => match socket.keep_name() {
                Ok(waiting) => for stream in waiting {
                    connections.add(converse(stream)).await;
                }
                Err(fault) => {
                    tracing::error!("the socket is gone: {fault}");
                    break;
                }
            },
            accepted = socket.accept() => match accepted {
                Ok(stream) => connections.add(converse(stream)).await,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    // Usually out of file descriptors.
                    if connections.close_idlest() {
                        tokio::task::yield_now().await;
                    } else {
                        sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        }
    }
}

/// Talks with one client in the dialect of its first byte.
async fn converse(
    service: Arc<Service>,
    mut stream: UnixStream,
    traffic: Arc<Traffic>,
) -> io::Result<()> {
    let caller = Peer::of(&stream).map_err(io::Error::other)?;
    let deadline = Instant::now() + PREFACE_TIMEOUT;
    match timeout_at(deadline, stream.read_u8()).await?? {
        preface::FIRST_BYTE => {
            let is_busy = service.is_busy();
            if timeout_at(deadline, tarpc::greet(&mut stream, is_busy)).await?? {
                tarpc::serve(Dispatch { service, caller }, stream, &traffic).await;
                Ok(())
            } else {
                refusal::close(stream).await
            }
        }
        b'A'..=b'Z' => refusal::http(stream).await,
        b'{' => refusal::json_rpc(stream).await,
        _ => Ok(()),
    }
}
