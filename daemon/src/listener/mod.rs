//! The socket: taking its name, letting in our own user only, limits, and one adapter for each
//! dialect. The first byte of a connection decides: 0x00 is a preface, then tarpc and bincode.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use sessd_proto::paths::{self, Paths};
use sessd_proto::peer::Peer;
use sessd_proto::preface::{self, Preface};
use sessd_proto::service::Sessd;
use sessd_proto::{Fault, FaultCode, Timestamp};
use tarpc::server::{BaseChannel, Channel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::now;
use crate::jobs::Jobs;
use crate::registry::Registry;

mod rpc;
mod transport;

/// Connections at the same time; beyond, the one that is idle longest gives way.
const CONNECTIONS_MAX: usize = 256;

/// Requests of one connection at the same time.
const REQUESTS_MAX: usize = 32;

/// A connection says what it is within this time.
const PREFACE: Duration = Duration::from_secs(2);

/// Pause after the system has run out of descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// How often we look whether the socket still has its name.
const LOOK: Duration = Duration::from_secs(5);

/// Requests in flight end within this time when the daemon does.
const DRAIN: Duration = Duration::from_secs(10);

/// What is served: the registry with its jobs, or why there is none.
pub struct Service {
    /// The daemon's paths.
    pub paths: Paths,
    started_at: Timestamp,
    state: Result<(Arc<Registry>, Arc<Jobs>), Fault>,
    ending: watch::Sender<bool>,
}

impl Service {
    /// Serves a registry, or the fault that kept it from being opened.
    #[must_use]
    pub fn new(paths: Paths, state: Result<(Arc<Registry>, Arc<Jobs>), Fault>) -> Arc<Self> {
        Arc::new(Self { paths, started_at: now(), state, ending: watch::Sender::new(false) })
    }

    /// The registry and its jobs; while degraded, why not.
    ///
    /// # Errors
    /// Why there is no registry.
    pub fn ready(&self) -> Result<(Arc<Registry>, Arc<Jobs>), Fault> {
        self.state.clone()
    }

    /// Makes [`serve`] return after the requests in flight.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    fn is_busy(&self) -> bool {
        self.state.as_ref().is_ok_and(|(registry, _)| registry.has_turns())
    }
}

/// Takes the public name of the socket: bound, private and listening before it has that name.
/// The caller holds the lock that makes the daemon single.
///
/// # Errors
/// When the folder is not ours alone, or the name cannot be taken.
pub fn bind(socket: &Path) -> Result<UnixListener, Fault> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| cannot_bind(socket, &error))?;
    paths::check_folder(folder)?;
    match fs::symlink_metadata(socket) {
        Ok(meta) if !meta.file_type().is_socket() => {
            let what = format!("{} exists and is not a socket", socket.display());
            return Err(Fault::new(FaultCode::Environment, what)
                .hint("move it away, or choose another socket with --socket"));
        }
        _ => {}
    }
    let partial = partial_name(socket);
    let _ = fs::remove_file(&partial);
    let bound = UnixListener::bind(&partial).and_then(|listener| {
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o600))?;
        fs::rename(&partial, socket)?;
        Ok(listener)
    });
    bound.map_err(|error| cannot_bind(socket, &error))
}

/// A short name in the same folder: the path of a socket may hardly grow.
fn partial_name(socket: &Path) -> PathBuf {
    socket.with_file_name(format!(".{}", std::process::id()))
}

fn cannot_bind(socket: &Path, error: &io::Error) -> Fault {
    Fault::new(FaultCode::Environment, format!("cannot listen on {}: {error}", socket.display()))
        .hint("choose another socket with --socket or SESSD_SOCKET")
}

/// Serves until the service ends, then lets requests in flight finish.
pub async fn serve(service: Arc<Service>, mut listener: UnixListener) {
    let connections = Arc::new(Connections::default());
    let mut ending = service.ending.subscribe();
    let socket = &service.paths.socket;
    let mut inode = inode(socket);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            _ = look.tick() => if self::inode(socket) != inode {
                // A logout takes the folder away; nobody else can have the name, as we have
                // the lock.
                match bind(socket) {
                    Ok(bound) => (listener, inode) = (bound, self::inode(socket)),
                    Err(fault) => {
                        tracing::error!("the socket is gone: {fault}");
                        break;
                    }
                }
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => Connections::add(&connections, &service, stream),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(BREATHER).await;
                }
            }
        }
    }
    if self::inode(socket) == inode {
        let _ = fs::remove_file(socket);
    }
    // Their followers would wait for them until the end of our patience.
    if let Ok((registry, _)) = service.ready()
        && let Err(fault) = registry.interrupt_turns().await
    {
        tracing::error!("cannot interrupt turns: {fault}");
    }
    let _ = timeout(DRAIN, connections.drained()).await;
}

/// What tells our socket from another one of the same name.
fn inode(socket: &Path) -> Option<u64> {
    fs::symlink_metadata(socket).ok().map(|meta| meta.ino())
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
    last_request: Mutex<Instant>,
    changed: watch::Sender<()>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(connections: &Arc<Self>, service: &Arc<Service>, stream: UnixStream) {
        if !connections.make_room() {
            return;
        }
        let id = connections.last_id.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::new(Traffic {
            in_flight: AtomicUsize::new(0),
            last_request: Mutex::new(Instant::now()),
            changed: watch::Sender::new(()),
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
    fn make_room(&self) -> bool {
        let mut open = self.open();
        if open.len() < CONNECTIONS_MAX {
            return true;
        }
        let idle = open.iter().filter(|(_, open)| open.traffic.is_idle());
        let oldest = idle.min_by_key(|(_, open)| open.traffic.last_request()).map(|(id, _)| *id);
        let closed = oldest.and_then(|id| open.remove(&id));
        if let Some(closed) = &closed {
            closed.task.abort();
        }
        closed.is_some()
    }

    /// Returns once no connection has a request in flight.
    async fn drained(&self) {
        let traffic: Vec<_> = self.open().values().map(|open| Arc::clone(&open.traffic)).collect();
        for traffic in traffic {
            let mut changed = traffic.changed.subscribe();
            while !traffic.is_idle() && changed.changed().await.is_ok() {}
        }
    }
}

impl Traffic {
    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    fn last_request(&self) -> Instant {
        *self.last_request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        *self.last_request.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.changed.send_replace(());
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
