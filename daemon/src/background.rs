//! Going to the background, so that the parent's exit status is the truth.
//!
//! The process forks before any thread or runtime exists, as threads do not survive a fork. The
//! child says through a pipe that it answers, or why it cannot; the parent repeats that.

use std::fs::File;
use std::io::{self, Read, Write};

use daemonize::{Daemonize, Outcome};
use rustix::pipe::{PipeFlags, pipe_with};
use sessd_proto::paths::Paths;
use sessd_proto::{Environment, Fault, FaultCode};

use crate::environment::DaemonEnvironment;
use crate::supervisor::Supervisor;
use crate::{daemon, log, system};

/// What the child writes when it answers.
const READY: &str = "ready";

/// Runs the daemon in the background; returns in the parent once the child answers, and in the
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
            hear(reader, &paths)
        }
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => Err(Fault::internal(error)),
        Outcome::Child(Ok(_)) => {
            drop(reader);
            log::to_file(&paths.log());
            let told = writer.try_clone();
            // Whatever manages our caller, it does not manage us.
            let supervisor = Supervisor::default();
            let env = DaemonEnvironment::borrowed(env);
            let result = daemon::run(paths, env, supervisor, move || say(&mut writer, READY));
            if let (Err(fault), Ok(mut told)) = (&result, told) {
                say(&mut told, &serde_json::to_string(fault).unwrap_or_default());
            }
            result
        }
    }
}

/// The log is opened by the parent, so that a folder that cannot be written is its own fault.
fn log_file(paths: &Paths) -> Result<File, Fault> {
    daemon::make_state(paths)?;
    log::open(&paths.log()).map_err(|error| {
        let what = format!("cannot write the log {}: {error}", paths.log().display());
        Fault::new(FaultCode::Environment, what).hint("make it writable, or set XDG_STATE_HOME")
    })
}

fn say(pipe: &mut File, text: &str) {
    // The parent may have been killed; the daemon runs all the same.
    let _ = pipe.write_all(text.as_bytes());
}

fn hear(mut pipe: File, paths: &Paths) -> Result<(), Fault> {
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = pipe.read(&mut chunk).map_err(Fault::internal)?;
        said.extend_from_slice(&chunk[..length]);
        // The child keeps its end open for as long as it lives.
        if said == READY.as_bytes() {
            return Ok(());
        }
        if length == 0 {
            let died = || {
                let what = "the daemon died while it started";
                let log = paths.log();
                Fault::new(FaultCode::Internal, what).hint(format!("its log: {}", log.display()))
            };
            return Err(serde_json::from_slice(&said).unwrap_or_else(|_| died()));
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
