//! `sessctl daemon install` and `uninstall`: user units, so that systemd starts the daemon on
//! the first call and keeps it alive. May be repeated; what was edited by hand is kept.

use std::io;
use std::path::Path;

use serde_json::json;
use sessd_proto::client::Client;
use sessd_proto::paths::Paths;
use sessd_proto::status::StatusRequest;
use sessd_proto::{Fault, FaultCode};

use super::units::{self, Found, UnitFile};
use crate::systemd::{self, Manager, SERVICE, SOCKET};
use crate::{Context, connect};

/// What to do instead of editing a unit.
const TO_CUSTOMISE: &str = "to take the new one, delete it first, and put changes of your own \
                            into a drop-in: `systemctl --user edit sessd.service`";

/// Have systemd start the daemon and keep it alive
///
/// Writes two user units and a drop-in with the present PATH, enables them, and starts to listen:
/// the first call starts the daemon, and so does every login. Files that you have edited are
/// kept.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Start at boot already, and go on after the last logout
    #[arg(long)]
    linger: bool,
    /// Print the files, write nothing
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
        let what =
            format!("the unit listens on {}, not on another socket", manager.socket().display());
        return Err(Fault::new(FaultCode::Usage, what).hint("leave --socket and SESSD_SOCKET out"));
    }
    let found = found(&files)?;
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
    // Nobody may start a daemon of their own between the end of the old one and the unit's.
    let _lock = connect::start_lock(&paths)?;
    // Before systemd reads the files: an install that is interrupted here is made good by the
    // next one, which sees that systemd has not read them.
    if let Some(pid) = connect::process(&paths).filter(is_to_end) {
        connect::stop(&paths, &context.env)?;
        done.say("stopped", format!("the daemon (process {pid})"));
    }
    if socket_is_stale && manager.property(SOCKET, "ActiveState") == "active" {
        // Whoever comes meanwhile waits for the lock.
        manager.call(&["stop", SOCKET])?;
        done.say("stopped", format!("{SOCKET}, which has changed"));
    }
    manager.call(&["daemon-reload"])?;
    if service_is_stale {
        // A caller may have had the old unit start one more.
        manager.call(&["try-restart", SERVICE])?;
    }
    // From the next login on it runs by itself: checks and cleanups wait for nobody's call.
    manager.call(&["enable", SOCKET, SERVICE])?;
    done.say("enabled", format!("{SOCKET} and {SERVICE}"));
    manager.call(&["start", SOCKET])?;
    done.say("started", format!("{SOCKET}; the first call starts the daemon"));
    let lingers = if args.linger { linger(&manager) } else { Ok(()) };
    if args.linger && lingers.is_ok() {
        done.say("enabled", "lingering: it starts at boot and goes on after logout".to_owned());
    }
    done.print(context)?;
    lingers
}

/// Names the user: without that, who is in no session of logind's is refused.
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

/// Refuses to end a daemon with turns to finish. One that cannot say is ended in any case.
fn refuse_if_busy(paths: &Paths) -> Result<(), Fault> {
    let status = Client::connect(&paths.socket).ok();
    let status = status.and_then(|mut client| client.status(StatusRequest {}).ok());
    match status.map_or(0, |status| status.turns_pending) {
        0 => Ok(()),
        turns => {
            let what = format!("the daemon, which must end for that, has {turns} turns to finish");
            Err(Fault::new(FaultCode::Busy, what)
                .hint("repeat it later, or interrupt them: `sessctl daemon stop`"))
        }
    }
}

/// What is on disk in the place of each file.
fn found(files: &[UnitFile; 3]) -> Result<Vec<Found>, Fault> {
    let found = |file: &UnitFile| file.found().map_err(|error| not_written(file, &error));
    files.iter().map(found).collect()
}

pub(super) fn uninstall(context: &Context) -> Result<(), Fault> {
    // Which program the files name does not matter, and it may be gone already.
    let files = files(context, Path::new("sessd"))?;
    let manager = Manager::find(&context.env);
    let mut done = Done::default();
    let found = found(&files)?;
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
            Found::Edited => done.say("kept", format!("{}: it was edited", file.path.display())),
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
    context.output.note("the registry stays; sessctl starts the daemon by itself again");
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
            let how = format!("{shown}: it was edited; {TO_CUSTOMISE}");
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
    Fault::new(FaultCode::Environment, what).hint("print the units instead: `--print`")
}

/// What was done, to be printed at the end.
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
