//! One run of the daemon: takes the lock, opens the registry, serves, starts the jobs, shuts
//! down. Knows no session and no provider.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sessd_proto::paths::{self, Paths};
use sessd_proto::{Fault, FaultCode};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::now;
use crate::config::Config;
use crate::environment::DaemonEnvironment;
use crate::jobs::Jobs;
use crate::listener::socket::{Socket, leads_here};
use crate::listener::{self, Service};
use crate::registry::Registry;
use crate::store;
use crate::supervisor::{Passed, Supervisor};

/// How long clients of the service manager's socket are redirected to a daemon already running.
const STAND_ASIDE_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval for opening a registry again that could not be read or written.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Interval for trying the lock while standing aside.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the daemon until it is told to end. `ready` is called once it serves.
///
/// # Errors
/// Fails if another daemon has the lock, or if the state folder or the socket cannot be used.
/// With an invalid configuration or a damaged registry it starts degraded, and every call
/// returns the reason.
pub fn run(
    paths: Paths,
    env: DaemonEnvironment,
    mut supervisor: Supervisor,
    ready: impl FnOnce(),
) -> Result<(), Fault> {
    let passed = supervisor.take_socket();
    let lock = match (lock(&paths), &passed) {
        (Err(fault), Some(passed)) if fault.code == FaultCode::Busy => {
            match stand_aside(&paths, &supervisor, passed, &fault) {
                Some(lock) => lock,
                None => return Ok(()),
            }
        }
        (lock, _) => lock?,
    };
    // Released by the kernel only, so that the next holder finds this process gone together with
    // the store's threads and their locks.
    std::mem::forget(lock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Enough for several homes and disks that hang: each occupies at most three.
        .max_blocking_threads(64)
        .build()
        .map_err(Fault::internal)?;
    let ended = runtime.block_on(serve(paths, env, passed, &supervisor, ready));
    // Does not wait for threads that read from such a disk.
    runtime.shutdown_background();
    ended
}

async fn serve(
    paths: Paths,
    env: DaemonEnvironment,
    passed: Option<Passed>,
    supervisor: &Supervisor,
    ready: impl FnOnce(),
) -> Result<(), Fault> {
    let state = open(&paths, env.clone()).await;
    if let Err(fault) = &state {
        tracing::error!("degraded: {fault}");
    }
    let degraded = |fault: &Fault| format!("degraded: {fault}");
    let status = state.as_ref().map_or_else(degraded, |_| "serving".to_owned());
    let service = Service::new(paths, state);
    let socket = match passed {
        Some(passed) => Socket::passed(passed)?,
        None => Socket::bind(&service.paths.socket)?,
    };
    end_on_signals(&service)?;
    tokio::spawn(start_jobs(Arc::clone(&service), env));
    tracing::info!("listening on {}", service.paths.socket.display());
    supervisor.tell_ready(&status);
    ready();
    listener::serve(Arc::clone(&service), socket, supervisor).await;
    if let Ok((registry, _)) = service.ready() {
        registry.store().stop_writes().await?;
    }
    tracing::info!("ended");
    Ok(())
}

/// Leaves the registry to a daemon that was started by hand. Clients of the service manager's
/// socket are disconnected; they then find the running daemon through its lock file, or by the
/// socket's name, which it takes again. Returns the lock if that daemon exits in the meantime.
fn stand_aside(
    paths: &Paths,
    supervisor: &Supervisor,
    passed: &Passed,
    fault: &Fault,
) -> Option<File> {
    tracing::warn!("{fault}; leaving it to that one");
    // Not a failure: the service manager would restart us as long as the other daemon runs.
    supervisor.tell_ready(&fault.message);
    let Passed { listener, path } = passed;
    listener.set_nonblocking(true).ok()?;
    let give_up = Instant::now() + STAND_ASIDE_TIMEOUT;
    loop {
        if let Ok(lock) = lock(paths) {
            return Some(lock);
        }
        let over = Instant::now() > give_up || !leads_here(listener, path);
        while listener.accept().is_ok() {}
        if over {
            return None;
        }
        std::thread::sleep(LOCK_POLL_INTERVAL);
    }
}

/// Retries opening the registry while its disk cannot be read or written, then starts the jobs.
async fn start_jobs(service: Arc<Service>, env: DaemonEnvironment) {
    while service.ready().is_err_and(|fault| fault.code == FaultCode::Storage) {
        tokio::time::sleep(REOPEN_INTERVAL).await;
        service.replace(open(&service.paths, env.clone()).await);
    }
    if let Ok((_, jobs)) = service.ready()
        && let Err(fault) = jobs.start().await
    {
        tracing::error!("cannot start the jobs: {fault}");
    }
}

async fn open(paths: &Paths, env: DaemonEnvironment) -> Result<(Arc<Registry>, Arc<Jobs>), Fault> {
    let config = Config::load(&paths.config, &env.all)?;
    match Registry::open(config, paths.clone(), env).await {
        Ok(registry) => {
            let jobs = Jobs::new(Arc::clone(&registry))?;
            Ok((registry, jobs))
        }
        Err(error) if error.is_damage() => Err(put_aside(paths, &error)),
        Err(error) => Err(error.into()),
    }
}

/// Renames a damaged registry and returns the fault that reports it. A new one is made only when
/// the daemon is restarted, so that a user has read the report.
fn put_aside(paths: &Paths, error: &store::Error) -> Fault {
    let database = paths.database();
    match store::put_aside(&database, now().0) {
        Ok(kept) => {
            let what =
                format!("the registry was damaged ({error}) and put aside: {}", kept.display());
            Fault::new(FaultCode::RegistryDamaged, what).hint(
                "`sessctl daemon restart` makes a new one and finds all sessions again, with the \
                 same ids; keys and tags are in the old one",
            )
        }
        Err(failed) => {
            let what = format!("the registry {} is damaged: {error}", database.display());
            Fault::new(FaultCode::RegistryDamaged, what)
                .hint(format!("it cannot be renamed ({failed}): move it away yourself"))
        }
    }
}

/// Creates the state folder, private to this user.
pub(crate) fn make_state(paths: &Paths) -> Result<(), Fault> {
    let state = &paths.state;
    paths::check_state(state)?;
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
    created.map_err(|error| not_writable(paths, &error))?;
    paths::check_state(state)
}

fn not_writable(paths: &Paths, error: &std::io::Error) -> Fault {
    let what = format!("cannot write to {}: {error}", paths.state.display());
    Fault::new(FaultCode::Environment, what)
        .hint("the registry lives there; make it writable, or set XDG_STATE_HOME")
}

/// Takes the lock that makes this daemon the only one of its registry, as long as the file is
/// open.
fn lock(paths: &Paths) -> Result<File, Fault> {
    make_state(paths)?;
    let failed = |error| not_writable(paths, &error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(paths.lock()).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            let text = format!("{}\n{}\n", std::process::id(), paths.socket.display());
            let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
            written.map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let pid = holder.lines().next().unwrap_or("unknown").to_owned();
            Err(Fault::new(
                FaultCode::Busy,
                format!("another sessd has the registry: process {pid}"),
            )
            .hint("end it first: `sessctl daemon stop`"))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn end_on_signals(service: &Arc<Service>) -> Result<(), Fault> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(Fault::internal)?;
        let service = Arc::clone(service);
        tokio::spawn(async move {
            signals.recv().await;
            service.end();
        });
    }
    Ok(())
}
