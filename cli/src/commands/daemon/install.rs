//! `sessctl daemon install` and `uninstall`: user units, with which systemd starts the daemon on
//! the first call and keeps it running. Repeatable; files that were edited by hand are kept.

use std::io;
use std::path::Path;

use serde_json::json;
use sessd_proto::client::Client;
use sessd_proto::paths::Paths;
use sessd_proto::status::StatusRequest;
use sessd_proto::{Fault, FaultCode};

use super::units::{self, Found, UnitFile};
use crate::output::count;
use crate::systemd::{self, Manager, SERVICE, SOCKET};
use crate::{Context, connect};

/// Advice for a unit file that was edited.
const TO_CUSTOMISE: &str = "to get the new version, delete the file, install again, and put your \
                            changes into a drop-in: `systemctl --user edit sessd.service`";

/// Let systemd start the daemon and keep it running
///
/// Writes two user units and a drop-in with the current PATH, enables them and starts listening.
/// The daemon then starts on the first call and at every login. Files that you have edited are
/// kept.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also start at boot, and keep running after the last logout
    #[arg(long)]
    linger: bool,
    /// Print the files and write nothing
    #[arg(long)]
    print: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<(), Fault> {
    let files = files(context, &connect::program(&context.env)?)?;
    if args.print {
        return print(context, &files);
    }
    let manager = Manager::find(&context.env).ok_or_else(systemd::no_manager)?;
    let paths = context.paths()?;
    if paths.socket != manager.socket() {
        let what = format!("the unit can only listen on {}", manager.socket().display());
        return Err(Fault::new(FaultCode::Usage, what)
            .hint("use that socket: `env -u SESSD_SOCKET sessctl daemon install`"));
    }
    let found = compare_all(&files)?;
    let is_stale = |unit, found: &[Found]| {
        let is_written = |found: &Found| matches!(found, Found::Missing | Found::Earlier);
        found.iter().any(is_written) || manager.has_outdated(unit)
    };
    let (socket_is_stale, service_is_stale) =
        (is_stale(SOCKET, &found[..1]), is_stale(SERVICE, &found[1..]));
    let is_to_end = |pid: &u32| socket_is_stale || service_is_stale || !systemd::runs(*pid);
    if connect::process(&paths).filter(is_to_end).is_some() {
        refuse_if_busy(&paths)?;
    }
    let mut done = Done::default();
    for (file, found) in files.iter().zip(found) {
        write(file, found, &mut done)?;
    }
    // Until the unit has taken over, no other client may start a daemon.
    let _lock = connect::start_lock(&paths)?;
    // Stop it before systemd reads the files: if this command is interrupted in between, the next
    // install sees that systemd has not read them and finishes the work.
    if let Some(pid) = connect::process(&paths).filter(is_to_end) {
        connect::stop(&paths, &context.env)?;
        done.say("stopped", format!("the daemon (process {pid})"));
    }
    if socket_is_stale && manager.property(SOCKET, "ActiveState") == "active" {
        // Clients that call now wait for the lock.
        manager.call(&["stop", SOCKET])?;
        done.say("stopped", format!("{SOCKET}, which has changed"));
    }
    manager.call(&["daemon-reload"])?;
    if service_is_stale {
        // A call may just have started another daemon from the old unit.
        manager.call(&["try-restart", SERVICE])?;
    }
    // Enable the service too, so that checks and cleanups run from login on without a call.
    manager.call(&["enable", SOCKET, SERVICE])?;
    done.say("enabled", format!("{SOCKET} and {SERVICE}"));
    manager.call(&["start", SOCKET])?;
    done.say("started", format!("{SOCKET}; the first call starts the daemon"));
    let lingers = if args.linger { linger(&manager) } else { Ok(()) };
    if args.linger && lingers.is_ok() {
        done.say(
            "enabled",
            "lingering: the daemon starts at boot and keeps running after logout".to_owned(),
        );
    }
    done.print(context)?;
    lingers
}

/// Enables lingering. Names the user, because logind refuses callers outside its sessions
/// otherwise.
fn linger(manager: &Manager) -> Result<(), Fault> {
    let user = rustix::process::getuid().as_raw().to_string();
    let lingers = manager.run("loginctl", &["enable-linger", &user]);
    let hint = format!("everything else is done; as root: `loginctl enable-linger {user}`");
    lingers.map_err(|fault| fault.hint(hint))
}

fn print(context: &Context, files: &[UnitFile]) -> Result<(), Fault> {
    if context.output.is_json() {
        let file = |file: &UnitFile| json!({ "path": file.path, "text": file.text() });
        let files: Vec<_> = files.iter().map(file).collect();
        return context.output.json(&json!({ "files": files }));
    }
    let file = |file: &UnitFile| format!("# {}\n{}\n", file.path.display(), file.text());
    context.output.data(&files.iter().map(file).collect::<String>())
}

/// Refuses to stop a daemon that has unfinished turns. One that does not respond is stopped.
fn refuse_if_busy(paths: &Paths) -> Result<(), Fault> {
    let status = Client::connect(&paths.socket).ok();
    let status = status.and_then(|mut client| client.status(StatusRequest {}).ok());
    match status.map_or(0, |status| status.turns_pending) {
        0 => Ok(()),
        turns => {
            let turns = count(turns, "unfinished turn");
            let what = format!("the daemon has to stop for this, but has {turns}");
            Err(Fault::new(FaultCode::Busy, what)
                .hint("try again later, or interrupt them: `sessctl daemon stop`"))
        }
    }
}

/// Compares each file with what is on disk.
fn compare_all(files: &[UnitFile; 3]) -> Result<Vec<Found>, Fault> {
    let found = |file: &UnitFile| file.compare().map_err(|error| not_written(file, &error));
    files.iter().map(found).collect()
}

pub(super) fn uninstall(context: &Context) -> Result<(), Fault> {
    // The program does not matter here, and may already be gone.
    let files = files(context, Path::new("sessd"))?;
    let manager = Manager::find(&context.env);
    let mut done = Done::default();
    let found = compare_all(&files)?;
    let paths = context.paths()?;
    if connect::process(&paths).is_some_and(systemd::runs) {
        refuse_if_busy(&paths)?;
    }
    if found[..2].iter().any(|found| *found != Found::Missing)
        && let Some(manager) = &manager
    {
        manager.call(&["disable", "--now", SOCKET, SERVICE])?;
        done.say("stopped", format!("{SOCKET} and {SERVICE}"));
    }
    for (file, found) in files.iter().zip(found) {
        match found {
            Found::Missing => {}
            Found::Edited => done.say("kept", format!("{}: edited by hand", file.path.display())),
            Found::Same | Found::Earlier => {
                file.remove().map_err(|error| not_written(file, &error))?;
                done.say("removed", file.path.display().to_string());
            }
        }
    }
    if let Some(manager) = &manager {
        manager.call(&["daemon-reload"])?;
    }
    done.print(context)?;
    context.output.note("the registry is kept; sessctl starts the daemon by itself again");
    Ok(())
}

fn files(context: &Context, program: &Path) -> Result<[UnitFile; 3], Fault> {
    let dir = systemd::unit_dir(&context.env).ok_or_else(|| {
        Fault::new(FaultCode::Environment, "neither HOME nor XDG_CONFIG_HOME is set")
            .hint("set HOME to your home directory")
    })?;
    let program = std::path::absolute(program).map_err(Fault::internal)?;
    Ok(units::all(&dir, &program, &context.env))
}

/// Writes a file unless it was edited.
fn write(file: &UnitFile, found: Found, done: &mut Done) -> Result<(), Fault> {
    let shown = file.path.display();
    match found {
        Found::Same => done.say("unchanged", shown.to_string()),
        Found::Edited => {
            let how = format!("{shown}: edited by hand; {TO_CUSTOMISE}");
            done.say("kept", how);
        }
        Found::Missing | Found::Earlier => {
            file.write().map_err(|error| not_written(file, &error))?;
            done.say("wrote", shown.to_string());
        }
    }
    Ok(())
}

fn not_written(file: &UnitFile, error: &io::Error) -> Fault {
    let what = format!("cannot write {}: {error}", file.path.display());
    Fault::new(FaultCode::Environment, what)
        .hint("print the units instead: `sessctl daemon install --print`")
}

/// The steps that were done, printed at the end.
#[derive(Default)]
struct Done(Vec<(&'static str, String)>);

impl Done {
    fn say(&mut self, action: &'static str, what: String) {
        self.0.push((action, what));
    }

    fn print(&self, context: &Context) -> Result<(), Fault> {
        if context.output.is_json() {
            let one = |(action, what): &(&str, String)| json!({ "action": action, "what": what });
            let actions: Vec<_> = self.0.iter().map(one).collect();
            return context.output.json(&json!({ "actions": actions }));
        }
        let line = |(action, what): &(&str, String)| format!("{action} {what}\n");
        context.output.data(&self.0.iter().map(line).collect::<String>())
    }
}
