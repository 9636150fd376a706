//! `sessctl daemon install` and `uninstall`: user units, so that systemd starts the daemon on
//! the first call and keeps it alive. May be repeated; what was edited by hand is kept.

use std::io;

use serde_json::json;
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
    let files = files(context)?;
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
    let mut done = Done::default();
    let mut is_changed = false;
    for file in &files {
        is_changed |= write(file, &mut done)?;
    }
    // Nobody may start a daemon of their own between the end of the old one and the unit's.
    let _lock = connect::start_lock(&paths)?;
    manager.call(&["daemon-reload"])?;
    let living = connect::process(&paths);
    if let Some(pid) = living
        && (is_changed || !systemd::runs(pid))
    {
        connect::stop(&paths, &context.env)?;
        done.say("stopped", format!("the daemon (process {pid})"));
    }
    // From the next login on it runs by itself: checks and cleanups wait for nobody's call.
    manager.call(&["enable", SOCKET, SERVICE])?;
    done.say("enabled", format!("{SOCKET} and {SERVICE}"));
    manager.call(&["start", SOCKET])?;
    done.say("started", format!("{SOCKET}; the first call starts the daemon"));
    let lingers = match args.linger {
        true => manager.run("loginctl", &["enable-linger"]),
        false => Ok(()),
    };
    if args.linger && lingers.is_ok() {
        done.say("enabled", "lingering: it starts at boot and goes on after logout".to_owned());
    }
    done.print(context)?;
    lingers
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

pub(super) fn uninstall(context: &Context) -> Result<(), Fault> {
    let files = files(context)?;
    let manager = Manager::find(&context.env);
    let mut done = Done::default();
    let found = files.iter().map(UnitFile::found).collect::<io::Result<Vec<_>>>();
    let found = found.map_err(|error| not_written(&files[0], &error))?;
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

fn files(context: &Context) -> Result<[UnitFile; 3], Fault> {
    let dir = systemd::unit_dir(&context.env).ok_or_else(|| {
        Fault::new(FaultCode::Environment, "neither HOME nor XDG_CONFIG_HOME is set")
            .hint("set HOME to your home directory")
    })?;
    let program = std::path::absolute(connect::program(&context.env)?).map_err(Fault::internal)?;
    Ok(units::all(&dir, &program, &context.env))
}

/// Writes a file unless it was edited; true if what systemd reads has changed.
fn write(file: &UnitFile, done: &mut Done) -> Result<bool, Fault> {
    let shown = file.path.display();
    match file.found().map_err(|error| not_written(file, &error))? {
        Found::Same => {
            done.say("unchanged", shown.to_string());
            Ok(false)
        }
        Found::Edited => {
            let how = format!("{shown}: it was edited; {TO_CUSTOMISE}");
            done.say("kept", how);
            Ok(false)
        }
        Found::Missing | Found::Earlier => {
            file.write().map_err(|error| not_written(file, &error))?;
            done.say("wrote", shown.to_string());
            Ok(true)
        }
    }
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
