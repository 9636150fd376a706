//! The socket: its name, letting in our own user only, limits, and one adapter for each dialect.
//! The first byte of a connection decides: 0x00 is a preface, then tarpc and bincode.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use sessd_proto::paths::Paths;
use sessd_proto::peer::Peer;
use sessd_proto::preface::{self, Preface};
use sessd_proto::service::Sessd;
use sessd_proto::{Fault, Timestamp};
use tarpc::server::{BaseChannel, Channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::now;
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::supervisor::Supervisor;

mod rpc;
pub mod socket;
mod transport;

use socket::Socket;

/// Connections at the same time; beyond, the one that is idle longest gives way.
const CONNECTIONS_MAX: usize = 256;

/// Requests of one connection at the same time.
const REQUESTS_MAX: usize = 32;

/// A connection says what it is within this time.
const PREFACE: Duration = Duration::from_secs(2);

/// Pause after the system has run out of descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// How often we look whether the socket still has its name.
const LOOK: Duration = Duration::from_secs(1);

/// Between two beats of a pulse that nobody feels.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Requests in flight end within this time when the daemon does.
const DRAIN: Duration = Duration::from_secs(10);

/// A client that was let in or answered so recently may be about to ask.
const THOUGHT: Duration = Duration::from_millis(200);

/// How long clients that ask again and again may do so while the daemon ends.
const THOUGHTS: Duration = Duration::from_secs(1);

/// Chances for connections to end by themselves before one is made to.
const LOOKS_AROUND: u32 = 4;

/// How long an answer that was just given is on its way out.
const WAY_OUT: Duration = Duration::from_millis(20);

/// The registry with its jobs, or why there is none.
pub type State = Result<(Arc<Registry>, Arc<Jobs>), Fault>;

/// What is served.
pub struct Service {
    /// The daemon's paths.
    pub paths: Paths,
    started_at: Timestamp,
    state: Mutex<State>,
    ending: watch::Sender<bool>,
}

impl Service {
    /// Serves a registry, or the fault that kept it from being opened.
    #[must_use]
    pub fn new(paths: Paths, state: State) -> Arc<Self> {
        let (state, ending) = (Mutex::new(state), watch::Sender::new(false));
        Arc::new(Self { paths, started_at: now(), state, ending })
    }

    /// The registry and its jobs; while degraded, why not.
    ///
    /// # Errors
    /// Why there is no registry.
    pub fn ready(&self) -> State {
        self.state().clone()
    }

    /// From now on serves this.
    pub fn replace(&self, state: State) {
        *self.state() = state;
    }

    /// Makes [`serve`] return after the requests in flight.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    fn is_busy(&self) -> bool {
        self.state().as_ref().is_ok_and(|(registry, _)| registry.turns.any())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the service ends, then lets requests in flight finish.
pub async fn serve(service: Arc<Service>, mut socket: Socket, supervisor: &Supervisor) {
    let connections = Arc::new(Connections::default());
    let mut ending = service.ending.subscribe();
    let mut look = tokio::time::interval(LOOK);
    // Told from this very loop: when it hangs, nobody is told that all is well.
    let mut pulse = tokio::time::interval(supervisor.pulse().unwrap_or(NEVER));
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            _ = pulse.tick() => supervisor.tell_alive(),
            _ = look.tick() => match socket.keep_name() {
                Ok(waiting) => for stream in waiting {
                    Connections::add(&connections, &service, stream).await;
                }
                Err(fault) => {
                    tracing::error!("the socket is gone: {fault}");
                    break;
                }
            },
            accepted = socket.accept() => match accepted {
                Ok(stream) => Connections::add(&connections, &service, stream).await,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    // Out of descriptors, as a rule.
                    if connections.close_idlest() {
                        tokio::task::yield_now().await;
                    } else {
                        sleep(BREATHER).await;
                    }
                }
            }
        }
    }
    supervisor.tell_ending();
    socket.release();
    // Their followers would wait for them until the end of our patience.
    if let Ok((registry, _)) = service.ready()
        && let Err(fault) = registry.turns.interrupt_all().await
    {
        tracing::error!("cannot interrupt turns: {fault}");
    }
    let _ = timeout(DRAIN, connections.drained()).await;
}

/// Every connection, so that the idlest one can give way.
#[derive(Default)]
struct Connections {
    last_id: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    task: AbortHandle,
    traffic: Arc<Traffic>,
}

/// What a connection does.
struct Traffic {
    in_flight: AtomicUsize,
    last_event: Mutex<Instant>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn add(connections: &Arc<Self>, service: &Arc<Service>, stream: UnixStream) {
        if !connections.make_room().await {
            return;
        }
        let id = connections.last_id.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::new(Traffic {
            in_flight: AtomicUsize::new(0),
            last_event: Mutex::new(Instant::now()),
        });
        let (all, service) = (Arc::clone(connections), Arc::clone(service));
        let own = Arc::clone(&traffic);
        let mut open = connections.open();
        let task = tokio::spawn(async move {
            // A panic in one connection must not reach the others.
            let guarded = std::panic::AssertUnwindSafe(converse(service, stream, own));
            match guarded.catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("connection {id}: {error}"),
                Err(_) => tracing::error!("connection {id} panicked"),
            }
            all.open().remove(&id);
        });
        open.insert(id, Open { task: task.abort_handle(), traffic });
    }

    /// True if there is room for one more, made by closing the idlest connection if need be.
    async fn make_room(&self) -> bool {
        for _ in 0..LOOKS_AROUND {
            if self.open().len() < CONNECTIONS_MAX {
                return true;
            }
            // Many may have hung up while we only accepted: they go before anybody who stays.
            tokio::task::yield_now().await;
        }
        self.close_idlest()
    }

    fn close_idlest(&self) -> bool {
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
    async fn drained(&self) {
        let began = Instant::now();
        loop {
            let pause = if began.elapsed() < THOUGHTS { THOUGHT } else { WAY_OUT };
            if self.open().values().all(|open| open.traffic.is_quiet(pause)) {
                break;
            }
            sleep(WAY_OUT / 4).await;
        }
    }
}

impl Traffic {
    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// True if nothing has happened for a while.
    fn is_quiet(&self, pause: Duration) -> bool {
        self.is_idle() && self.last_event().elapsed() > pause
    }

    /// When the client was let in, asked or was answered, whatever was last.
    fn last_event(&self) -> Instant {
        *self.last_event.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happened(&self) {
        *self.last_event.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn begin(&self) {
        self.happened();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.happened();
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Speaks with one client: who it is, what it speaks, then its requests.
async fn converse(
    service: Arc<Service>,
    mut stream: UnixStream,
    traffic: Arc<Traffic>,
) -> io::Result<()> {
    let peer = Peer::of(&stream).map_err(io::Error::other)?;
    let greeted = timeout(PREFACE, greet(&mut stream, service.is_busy())).await;
    if !greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        return Ok(());
    }
    let handler = rpc::Handler { service, peer };
    let channel = BaseChannel::with_defaults(transport::Transport::new(stream));
    let requests = channel.max_concurrent_requests(REQUESTS_MAX).execute(handler.serve());
    tokio::pin!(requests);
    while let Some(request) = requests.next().await {
        let traffic = Arc::clone(&traffic);
        traffic.begin();
        tokio::spawn(async move {
            request.await;
            traffic.end();
        });
    }
    Ok(())
}

/// Exchanges prefaces; `true` if the client speaks our protocol. The client sees ours in any
/// case and can say what is wrong.
async fn greet(stream: &mut UnixStream, busy: bool) -> io::Result<bool> {
    stream.write_all(&Preface::current(busy).to_bytes()).await?;
    let mut bytes = [0; preface::LENGTH];
    stream.read_exact(&mut bytes).await?;
    Ok(Preface::from_bytes(bytes).is_some_and(|p| p.protocol == sessd_proto::PROTOCOL_VERSION))
}
