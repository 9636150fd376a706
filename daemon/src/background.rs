//! `--daemonize`: runs the daemon in the background. The parent exits once the child serves, or
//! with the child's fault.
//!
//! The process forks before any thread or runtime exists, as threads do not survive a fork. The
//! child reports through a pipe.

use std::fs::File;
use std::io::{self, Read, Write};

use daemonize::{Daemonize, Outcome};
use rustix::pipe::{PipeFlags, pipe_with};
use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault, FaultCode};

use crate::environment::DaemonEnvironment;
use crate::supervisor::Supervisor;
use crate::{daemon, log, system};

/// Written by the child once it serves.
const READY: &str = "ready";

/// Runs the daemon in the background. Returns in the parent once the child serves, and in the
/// child once it ends.
pub(crate) fn run(paths: Paths, env: Environment) -> Result<(), Fault> {
    system::close_inherited();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Fault::internal)?;
    let (reader, mut writer) = (File::from(reader), File::from(writer));
    let output = log_file(&paths)?;
    let errors = output.try_clone().map_err(Fault::internal)?;
    let fork = Daemonize::new().umask(0o077).working_directory("/").stdout(output).stderr(errors);
    match fork.execute() {
        Outcome::Parent(Ok(_)) => {
            drop(writer);
            wait_until_ready(reader, &paths)
        }
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Err(Fault::internal(error)),
        Outcome::Child(Ok(_)) => {
            drop(reader);
            log::to_file(&paths.log());
            let for_fault = writer.try_clone();
            // A service manager of our caller does not manage us.
            let supervisor = Supervisor::default();
            let env = DaemonEnvironment::borrowed(env);
            let result = daemon::run(paths, env, supervisor, move || {
                report_to_parent(&mut writer, READY);
            });
            if let (Err(fault), Ok(mut writer)) = (&result, for_fault) {
                report_to_parent(&mut writer, &serde_json::to_string(fault).unwrap_or_default());
            }
            result
        }
    }
}

/// Opens the log in the parent, so that the parent reports a folder that is not writable.
fn log_file(paths: &Paths) -> Result<File, Fault> {
    daemon::make_state(paths)?;
    log::open(&paths.log()).map_err(|error| {
        let what = format!("cannot write the log {}: {error}", paths.log().display());
        Fault::new(FaultCode::Environment, what).hint("make it writable, or set XDG_STATE_HOME")
    })
}

fn report_to_parent(pipe: &mut File, text: &str) {
    // Fails if the parent has been killed, which does not concern the daemon.
    let _ = pipe.write_all(text.as_bytes());
}

fn wait_until_ready(mut pipe: File, paths: &Paths) -> Result<(), Fault> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = pipe.read(&mut chunk).map_err(Fault::internal)?;
        received.extend_from_slice(&chunk[..length]);
        // The child keeps its end open as long as it lives, so there is no end of file to wait for.
        if received == READY.as_bytes() {
            return Ok(());
        }
        if length == 0 {
            let died = || {
                let what = "the daemon exited during startup";
                let log = paths.log();
                Fault::new(FaultCode::Internal, what).hint(format!("its log: {}", log.display()))
            };
            return Err(serde_json::from_slice(&received).unwrap_or_else(|_| died()));
        }
    }
}

/// Prints a fault the way `sessctl` does.
pub(crate) fn report(fault: &Fault) {
    let mut errors = io::stderr().lock();
    let _ = writeln!(errors, "error: {fault}");
    if let Some(hint) = &fault.hint {
        let _ = writeln!(errors, "hint: {hint}");
    }
}
