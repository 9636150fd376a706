//! One run of the daemon: configuration, lock, registry, socket, jobs, and the way back.

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

/// How long clients that came to a socket of the service manager are sent to another daemon.
const ASIDE: Duration = Duration::from_secs(10);

/// How often a registry is tried that could not be read or written.
const RETRY: Duration = Duration::from_secs(1);

/// How often the lock is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs the daemon until it is told to end. `ready` is called once it answers.
///
/// # Errors
/// Why it cannot start. A broken configuration or a damaged registry is no such reason: the
/// daemon then starts degraded, and every call says why.
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
    // Never released by us: whoever waits for it finds the whole process gone, the store's
    // threads and their locks too.
    std::mem::forget(lock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Enough for several homes and disks that hang: each keeps at most three for itself.
        .max_blocking_threads(64)
        .build()
        .map_err(Fault::internal)?;
    let ended = runtime.block_on(serve(paths, env, passed, &supervisor, ready));
    // Not waited for: whatever reads such a disk.
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
    tokio::spawn(go_on(Arc::clone(&service), env));
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

/// A daemon that was started by hand has the registry, and keeps it. Clients that came to the
/// service manager's socket all the same are sent away, whereupon they find that daemon by its
/// lock or by the name, which it takes again. Answers the lock if that daemon ends meanwhile.
fn stand_aside(
    paths: &Paths,
    supervisor: &Supervisor,
    passed: &Passed,
    fault: &Fault,
) -> Option<File> {
    tracing::warn!("{fault}; it is left to it");
    // Nothing has failed: a failure would be repeated for as long as the other one lives.
    supervisor.tell_ready(&fault.message);
    let Passed { listener, path } = passed;
    listener.set_nonblocking(true).ok()?;
    let give_up = Instant::now() + ASIDE;
    loop {
        if let Ok(lock) = lock(paths) {
            return Some(lock);
        }
        let over = Instant::now() > give_up || !leads_here(listener, path);
        while listener.accept().is_ok() {}
        if over {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Opens the registry as soon as it can be opened, and has the jobs run.
async fn go_on(service: Arc<Service>, env: DaemonEnvironment) {
    while service.ready().is_err_and(|fault| fault.code == FaultCode::Storage) {
        tokio::time::sleep(RETRY).await;
        service.replace(open(&service.paths, env.clone()).await);
    }
    if let Ok((_, jobs)) = service.ready()
        && let Err(fault) = jobs.start().await
    {
        tracing::error!("the jobs do not run: {fault}");
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

/// A damaged registry is kept under another name and reported; a new one is made only when
/// somebody who has read this starts the daemon again.
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

/// Makes the directory of the registry, private to us.
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

/// Makes this daemon the only one of its registry, for as long as the file lives.
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
