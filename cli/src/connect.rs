//! Finds the daemon, or starts it: one daemon however many clients come at once.
//!
//! The lock file beside the registry names the living daemon and its socket, so a client whose
//! environment computes another path still finds it. Starting happens under a lock of its own.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use sessd_proto::client::{Client, ConnectError, mismatch};
use sessd_proto::environment::is_supervisors;
use sessd_proto::paths::{self, Paths};
use sessd_proto::preface::Preface;
use sessd_proto::turn::TURN_VARIABLE;
use sessd_proto::{Environment, Fault, FaultCode, PROTOCOL_VERSION};

use crate::systemd::{self, Manager};

/// How long a daemon that starts or ends may take; one that ends takes up to 10 s of it to
/// finish what was asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a daemon below systemd may be silent: longer than its watchdog lets it hang.
const SILENCE: Duration = Duration::from_secs(40);

/// A daemon that is gone as soon as it answers is started this often.
const STARTS_MAX: u32 = 3;

/// How often a condition is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(5);

/// Returns a connection to the daemon, which is started if there is none. Whether it speaks our
/// protocol is known after the first call, which calls [`recover`] if it does not.
///
/// # Errors
/// Fails if the daemon cannot be reached or started.
pub fn connect(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    Client::connect(&paths.socket).or_else(|error| recover(error, paths, env))
}

/// Like [`connect`], but returns only once the daemon has been heard to speak our protocol.
///
/// # Errors
/// Fails if the daemon cannot be reached or started, or speaks another protocol.
pub fn connect_and_greet(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    greeted(&paths.socket).or_else(|error| recover(error, paths, env))
}

/// Returns a connection after connecting has failed: waits for a daemon that hangs, replaces an
/// older one, starts one if there is none.
///
/// # Errors
/// Fails if the daemon cannot be reached or started, or must not be replaced.
pub fn recover(error: ConnectError, paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    match error {
        ConnectError::Refused(fault) => outwaited(fault, paths, env),
        ConnectError::NoDaemon(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(no_permission(&paths.socket))
        }
        ConnectError::Mismatch { daemon } if !makes_room(daemon) => Err(mismatch(daemon)),
        ConnectError::NoDaemon(_) | ConnectError::Mismatch { .. } => start(paths, env),
    }
}

/// Connects and exchanges prefaces.
fn greeted(socket: &Path) -> Result<Client, ConnectError> {
    let mut client = Client::connect(socket)?;
    client.greet()?;
    Ok(client)
}

/// Waits for a daemon that hangs, until systemd has another one answer, or that is at work on
/// the registry before it serves.
fn outwaited(fault: Fault, paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    let give_up = Instant::now() + SILENCE;
    let (mut fault, mut without) = (fault, 0);
    while fault.code == FaultCode::DaemonUnreachable
        && Manager::in_charge(paths, env).is_some()
        && Instant::now() < give_up
    {
        // Once there may be none because the next one is about to start.
        without = if process(paths).is_some_and(systemd::runs) { 0 } else { without + 1 };
        if without > 1 {
            break;
        }
        match greeted(&paths.socket) {
            Ok(client) => return Ok(client),
            Err(ConnectError::Refused(again)) => fault = again,
            Err(ConnectError::NoDaemon(_) | ConnectError::Mismatch { .. }) => {
                return start(paths, env);
            }
        }
    }
    Err(explained(fault, paths, env))
}

/// Ends the daemon of whatever version and waits until it is gone; answers its process, if
/// there was one.
///
/// # Errors
/// When it does not end.
pub fn stop(paths: &Paths, env: &Environment) -> Result<Option<u32>, Fault> {
    let Some(pid) = process(paths) else { return Ok(None) };
    match Manager::find(env).filter(|_| systemd::runs(pid)) {
        Some(manager) => manager.call(&["stop", systemd::SERVICE])?,
        None => end(pid)?,
    }
    let give_up = Instant::now() + PATIENCE;
    // A client that comes meanwhile may already have started the next one.
    while process(paths) == Some(pid) {
        if Instant::now() > give_up {
            let what = format!("the daemon (process {pid}) does not end");
            return Err(Fault::new(FaultCode::Deadline, what).hint(format!("`kill {pid}`")));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(Some(pid))
}

/// A daemon that is told to end finishes what is asked of it, whatever protocol it speaks.
fn end(pid: u32) -> Result<(), Fault> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Fault::internal(error)),
    }
}

/// The process of the daemon, if one lives.
#[must_use]
pub fn process(paths: &Paths) -> Option<u32> {
    holder(paths).map(|(pid, _)| pid)
}

/// The daemon that lives already, if one does; none is started, an older idle one makes room.
///
/// # Errors
/// When it lives but cannot be talked to.
fn living(paths: &Paths, env: &Environment) -> Result<Option<Client>, Fault> {
    let named = holder(paths).map(|(_, socket)| socket);
    for socket in [Some(paths.socket.clone()), named].into_iter().flatten() {
        match greeted(&socket) {
            Ok(client) => return Ok(Some(client)),
            Err(ConnectError::NoDaemon(_)) => {}
            Err(ConnectError::Refused(fault)) => return Err(explained(fault, paths, env)),
            Err(ConnectError::Mismatch { daemon }) => replace(paths, env, daemon)?,
        }
    }
    Ok(None)
}

/// Starts the daemon under the start lock, unless somebody else has meanwhile.
fn start(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    let _one_starter = start_lock(paths)?;
    let give_up = Instant::now() + PATIENCE;
    let mut started = 0;
    loop {
        if let Some(client) = living(paths, env)? {
            return Ok(client);
        }
        if holder(paths).is_none() {
            if started == STARTS_MAX {
                return Err(vanished(paths));
            }
            match begin(paths, env, started) {
                // Somebody started one by hand in this very moment.
                Err(fault) if fault.code == FaultCode::Busy && Instant::now() < give_up => {}
                Err(fault) => return Err(fault),
                Ok(()) => started += 1,
            }
        } else if Instant::now() > give_up {
            return Err(silent(paths));
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Has the daemon started: by systemd, if that has the unit and can be reached, else by us.
fn begin(paths: &Paths, env: &Environment, attempt: u32) -> Result<(), Fault> {
    // A socket whose name was taken away is active all the same, and has to be made anew.
    let verb = if attempt == 0 { "start" } else { "restart" };
    if attempt < 2
        && let Some(manager) = Manager::in_charge(paths, env)
        && manager.call(&[verb, systemd::SOCKET]).is_ok()
    {
        return Ok(());
    }
    spawn(paths, env)
}

/// Keeps every other client from starting a daemon for as long as the file lives.
///
/// # Errors
/// When the folder of the registry cannot be written.
pub fn start_lock(paths: &Paths) -> Result<File, Fault> {
    let failed = |error: io::Error| {
        let what = format!("cannot write to {}: {error}", paths.state.display());
        Fault::new(FaultCode::Environment, what)
            .hint("the registry lives there; make it writable, or set XDG_STATE_HOME")
    };
    paths::check_state(&paths.state)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&paths.state).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(paths.state.join("start.lock")).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// The process and the socket of the daemon that holds the registry, if one does.
fn holder(paths: &Paths) -> Option<(u32, PathBuf)> {
    paths::check_state(&paths.state).ok()?;
    let mut file = File::open(paths.lock()).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (pid, socket) = text.trim_end().split_once('\n').unwrap_or(("0", ""));
    Some((pid.parse().unwrap_or_default(), socket.into()))
}

/// Runs `sessd --daemonize`, whose exit status tells whether the daemon answers.
fn spawn(paths: &Paths, env: &Environment) -> Result<(), Fault> {
    let program = program(env)?;
    let mut command = Command::new(&program);
    // It is no part of the turn in which a call has happened to need it, and does not end with it.
    command.env_remove(TURN_VARIABLE);
    env.0.keys().filter(|name| is_supervisors(name)).for_each(|name| {
        command.env_remove(name);
    });
    let output = command
        .arg("--daemonize")
        .arg("--socket")
        .arg(&paths.socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.map_err(|error| {
        let what = format!("cannot run {}: {error}", program.display());
        Fault::new(FaultCode::DaemonUnreachable, what).hint("name sessd with SESSD_BIN")
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(repeat(&String::from_utf8_lossy(&output.stderr), output.status.code()))
}

/// The daemon's own words and exit status as a fault of ours.
fn repeat(words: &str, status: Option<i32>) -> Fault {
    let line = |prefix: &str| words.lines().find_map(|line| line.strip_prefix(prefix));
    let code = match status {
        Some(1) => FaultCode::Environment,
        Some(4) => FaultCode::Busy,
        Some(70) => FaultCode::Internal,
        _ => FaultCode::DaemonUnreachable,
    };
    let message = line("error: ").map_or_else(
        || format!("the daemon does not start: {}", words.trim()),
        |message| format!("the daemon does not start: {message}"),
    );
    Fault { hint: line("hint: ").map(str::to_owned), ..Fault::new(code, message) }
}

/// The daemon's program: named, beside ours, or on PATH.
///
/// # Errors
/// When it is not there.
pub fn program(env: &Environment) -> Result<PathBuf, Fault> {
    if let Some(named) = env.get("SESSD_BIN") {
        return Ok(named.into());
    }
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|dir| dir.join("sessd"));
    let on_path = std::env::split_paths(env.get("PATH").unwrap_or_default());
    let mut candidates = beside.into_iter().chain(on_path.map(|dir| dir.join("sessd")));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        Fault::new(FaultCode::DaemonUnreachable, "the daemon's program sessd cannot be found")
            .hint("put it beside sessctl or on PATH, or name it with SESSD_BIN")
    })
}

/// Ends an older daemon that has nothing to finish, so that one of our version can start.
fn replace(paths: &Paths, env: &Environment, daemon: Preface) -> Result<(), Fault> {
    // Not whoever the socket names: that may be the service manager, which made it.
    if makes_room(daemon) { stop(paths, env).map(drop) } else { Err(mismatch(daemon)) }
}

/// True for an older daemon that has nothing to finish.
fn makes_room(daemon: Preface) -> bool {
    daemon.protocol < PROTOCOL_VERSION && !daemon.busy
}

fn no_permission(socket: &Path) -> Fault {
    let what = format!("no permission to talk to {}", socket.display());
    Fault::new(FaultCode::DaemonUnreachable, what)
        .hint("it belongs to somebody else; choose another with --socket or SESSD_SOCKET")
}

/// Behind a socket of systemd's there may be nobody, if the daemon cannot be started.
fn explained(fault: Fault, paths: &Paths, env: &Environment) -> Fault {
    if fault.code != FaultCode::DaemonUnreachable || Manager::in_charge(paths, env).is_none() {
        return fault;
    }
    let what = "systemd listens for the daemon, but nobody answers";
    Fault::new(fault.code, what).hint("why: `sessctl daemon logs`")
}

fn silent(paths: &Paths) -> Fault {
    let what = format!("a daemon holds {} but does not answer", paths.lock().display());
    Fault::new(FaultCode::DaemonUnreachable, what)
        .hint(format!("its log: {}; then `sessctl daemon restart`", paths.log().display()))
}

fn vanished(paths: &Paths) -> Fault {
    Fault::new(FaultCode::DaemonUnreachable, "the daemon starts, but is gone again at once")
        .hint(format!("its log: {}", paths.log().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_words_and_exit_status_are_kept() {
        let fault = repeat("error: no room\nhint: make some\n", Some(1));
        assert_eq!(fault.message, "the daemon does not start: no room");
        assert_eq!(fault.hint.as_deref(), Some("make some"));
        assert_eq!(fault.code.exit_code(), 1);
        assert_eq!(repeat("boom", None).code, FaultCode::DaemonUnreachable);
    }
}
