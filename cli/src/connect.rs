//! Finds the daemon or starts it; many clients at once start only one.
//!
//! The lock file beside the registry names the running daemon and its socket, so that a client
//! whose environment leads to another path still finds it. A second lock serialises starting.

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

/// Time limit for a daemon to start or stop; up to 10 s of it go to finishing requests.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for a daemon run by systemd to respond; longer than its watchdog allows it to hang.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(40);

/// Number of starts before giving up on a daemon that exits at once.
const STARTS_MAX: u32 = 3;

/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Connects to the daemon, starting it if there is none. Whether it speaks our protocol is known
/// after the first call; a caller that sees a mismatch then calls [`recover`].
///
/// # Errors
/// [`FaultCode::DaemonUnreachable`] if it does not respond or cannot be started,
/// [`FaultCode::Environment`] if a folder is missing, unwritable or not private.
pub fn connect(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    Client::connect(&paths.socket).or_else(|error| recover(error, paths, env))
}

/// Like [`connect`], but waits for the daemon's preface.
///
/// # Errors
/// As [`connect`], and [`FaultCode::ProtocolMismatch`] if the daemon speaks another protocol and
/// cannot be replaced.
pub fn connect_and_greet(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    exchange_prefaces(&paths.socket).or_else(|error| recover(error, paths, env))
}

/// Returns a connection after connecting has failed: waits for a daemon that hangs, replaces an
/// older one, starts one if there is none.
///
/// # Errors
/// Fails if the daemon cannot be reached or started, or must not be replaced.
pub fn recover(error: ConnectError, paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    match error {
        ConnectError::Refused(fault) => wait_for_hung(fault, paths, env),
        ConnectError::NoDaemon(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(no_permission(&paths.socket))
        }
        ConnectError::Mismatch { daemon } if !makes_room(daemon) => Err(mismatch(daemon)),
        ConnectError::NoDaemon(_) | ConnectError::Mismatch { .. } => start(paths, env),
    }
}

/// Connects and exchanges prefaces.
fn exchange_prefaces(socket: &Path) -> Result<Client, ConnectError> {
    let mut client = Client::connect(socket)?;
    client.greet()?;
    Ok(client)
}

/// Waits for a busy or hung daemon: until it answers, or systemd's watchdog has replaced it.
fn wait_for_hung(fault: Fault, paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    let give_up = Instant::now() + RESPONSE_TIMEOUT;
    let (mut fault, mut without) = (fault, 0);
    while fault.code == FaultCode::DaemonUnreachable
        && Manager::in_charge(paths, env).is_some()
        && Instant::now() < give_up
    {
        // Tolerate one miss: the next daemon may be about to start.
        without = if process(paths).is_some_and(systemd::runs) { 0 } else { without + 1 };
        if without > 1 {
            break;
        }
        match exchange_prefaces(&paths.socket) {
            Ok(client) => return Ok(client),
            Err(ConnectError::Refused(again)) => fault = again,
            Err(ConnectError::NoDaemon(_) | ConnectError::Mismatch { .. }) => {
                return start(paths, env);
            }
        }
    }
    Err(explain_systemd(fault, paths, env))
}

/// Stops the daemon, whatever its version, and waits until it is gone. Returns its process, if
/// there was one.
///
/// # Errors
/// [`FaultCode::Deadline`] if it does not exit, [`FaultCode::Environment`] if systemd fails to
/// stop it.
pub fn stop(paths: &Paths, env: &Environment) -> Result<Option<u32>, Fault> {
    let Some(pid) = process(paths) else { return Ok(None) };
    match Manager::find(env).filter(|_| systemd::runs(pid)) {
        Some(manager) => manager.call(&["stop", systemd::SERVICE])?,
        None => end(pid)?,
    }
    let give_up = Instant::now() + START_TIMEOUT;
    // Another client may already have started the next daemon.
    while process(paths) == Some(pid) {
        if Instant::now() > give_up {
            let what = format!("the daemon (process {pid}) does not exit");
            return Err(
                Fault::new(FaultCode::Deadline, what).hint(format!("kill it: `kill -9 {pid}`"))
            );
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(Some(pid))
}

/// Sends SIGTERM, on which a daemon of any protocol version finishes its requests and exits.
fn end(pid: u32) -> Result<(), Fault> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Fault::internal(error)),
    }
}

/// Returns the process of the running daemon, if there is one.
#[must_use]
pub fn process(paths: &Paths) -> Option<u32> {
    holder(paths).map(|(pid, _)| pid)
}

/// Connects to the running daemon, if there is one; stops it if it is older and idle.
///
/// # Errors
/// Fails if a daemon is running but the connection does.
fn connect_running(paths: &Paths, env: &Environment) -> Result<Option<Client>, Fault> {
    let named = holder(paths).map(|(_, socket)| socket);
    for socket in [Some(paths.socket.clone()), named].into_iter().flatten() {
        match exchange_prefaces(&socket) {
            Ok(client) => return Ok(Some(client)),
            Err(ConnectError::NoDaemon(_)) => {}
            Err(ConnectError::Refused(fault)) => return Err(explain_systemd(fault, paths, env)),
            Err(ConnectError::Mismatch { daemon }) => replace(paths, env, daemon)?,
        }
    }
    Ok(None)
}

/// Starts the daemon under the start lock, unless another client has done so first.
fn start(paths: &Paths, env: &Environment) -> Result<Client, Fault> {
    let _one_starter = start_lock(paths)?;
    let give_up = Instant::now() + START_TIMEOUT;
    let mut started = 0;
    loop {
        if let Some(client) = connect_running(paths, env)? {
            return Ok(client);
        }
        if holder(paths).is_none() {
            if started == STARTS_MAX {
                return Err(vanished(paths));
            }
            match begin(paths, env, started) {
                // A daemon was started by hand at this moment.
                Err(fault) if fault.code == FaultCode::Busy && Instant::now() < give_up => {}
                Err(fault) => return Err(fault),
                Ok(()) => started += 1,
            }
        } else if Instant::now() > give_up {
            return Err(silent(paths));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Starts the daemon: through systemd if its unit is installed, else directly.
fn begin(paths: &Paths, env: &Environment, attempt: u32) -> Result<(), Fault> {
    // A socket unit whose file was removed still counts as active, and has to be restarted.
    let verb = if attempt == 0 { "start" } else { "restart" };
    if attempt < 2
        && let Some(manager) = Manager::in_charge(paths, env)
        && manager.call(&[verb, systemd::SOCKET]).is_ok()
    {
        return Ok(());
    }
    spawn(paths, env)
}

/// Takes the start lock: no other client starts a daemon until the file is dropped.
///
/// # Errors
/// [`FaultCode::Environment`] if the state folder is not private or cannot be written.
pub fn start_lock(paths: &Paths) -> Result<File, Fault> {
    let failed = |error: io::Error| {
        let what = format!("cannot write to {}: {error}", paths.state.display());
        Fault::new(FaultCode::Environment, what)
            .hint("make the folder of the registry writable, or set XDG_STATE_HOME")
    };
    paths::check_state(&paths.state)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&paths.state).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(paths.state.join("start.lock")).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Returns the process and the socket of the daemon that holds the lock, if there is one.
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

/// Runs `sessd --daemonize`, which exits once the daemon responds or has failed.
fn spawn(paths: &Paths, env: &Environment) -> Result<(), Fault> {
    let program = program(env)?;
    let mut command = Command::new(&program);
    // The daemon must not inherit SESSD_TURN: it would be killed together with that turn.
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
        Fault::new(FaultCode::DaemonUnreachable, what).hint("set SESSD_BIN to the path of sessd")
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(repeat(&String::from_utf8_lossy(&output.stderr), output.status.code()))
}

/// Makes a fault of the messages and the exit status of a daemon that did not start.
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

/// Finds the daemon's program: `$SESSD_BIN`, else beside this one, else on PATH.
///
/// # Errors
/// [`FaultCode::DaemonUnreachable`] if it is in none of these places.
pub fn program(env: &Environment) -> Result<PathBuf, Fault> {
    if let Some(named) = env.get("SESSD_BIN") {
        return Ok(named.into());
    }
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|dir| dir.join("sessd"));
    let on_path = std::env::split_paths(env.get("PATH").unwrap_or_default());
    let mut candidates = beside.into_iter().chain(on_path.map(|dir| dir.join("sessd")));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        Fault::new(FaultCode::DaemonUnreachable, "cannot find the program sessd")
            .hint("put it beside sessctl or on PATH, or set SESSD_BIN to its path")
    })
}

/// Stops an older idle daemon, so that one of our version can start.
fn replace(paths: &Paths, env: &Environment, daemon: Preface) -> Result<(), Fault> {
    // By its lock: the other end of the socket may be the service manager.
    if makes_room(daemon) { stop(paths, env).map(drop) } else { Err(mismatch(daemon)) }
}

/// True for a daemon that is older and idle.
fn makes_room(daemon: Preface) -> bool {
    daemon.protocol < PROTOCOL_VERSION && !daemon.busy
}

fn no_permission(socket: &Path) -> Fault {
    let what = format!("no permission to connect to {}", socket.display());
    Fault::new(FaultCode::DaemonUnreachable, what)
        .hint("it belongs to another user; choose another with --socket or SESSD_SOCKET")
}

/// Replaces the fault if systemd owns the socket but fails to start the daemon.
fn explain_systemd(fault: Fault, paths: &Paths, env: &Environment) -> Fault {
    if fault.code != FaultCode::DaemonUnreachable || Manager::in_charge(paths, env).is_none() {
        return fault;
    }
    let what = "systemd listens for the daemon, but the daemon does not start";
    Fault::new(fault.code, what).hint("see `sessctl daemon logs`")
}

fn silent(paths: &Paths) -> Fault {
    let what = format!("a daemon holds {} but does not respond", paths.lock().display());
    Fault::new(FaultCode::DaemonUnreachable, what)
        .hint(format!("see {}, then: `sessctl daemon restart`", paths.log().display()))
}

fn vanished(paths: &Paths) -> Fault {
    Fault::new(FaultCode::DaemonUnreachable, "the daemon exits immediately after it has started")
        .hint(format!("see its log: `tail {}`", paths.log().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_and_exit_status_of_the_daemon_are_kept() {
        let fault = repeat("error: no room\nhint: make some\n", Some(1));
        assert_eq!(fault.message, "the daemon does not start: no room");
        assert_eq!(fault.hint.as_deref(), Some("make some"));
        assert_eq!(fault.code.exit_code(), 1);
        assert_eq!(repeat("boom", None).code, FaultCode::DaemonUnreachable);
    }
}
