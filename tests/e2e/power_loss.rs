//! The power fails: what was not synced is cut off, torn or garbage. The registry opens all the
//! same, is sound, and has everything that was promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection;
use sessd_proto::change::{SelectorsRequest, TagRequest};
use sessd_proto::job::RunJobRequest;
use sessd_proto::launch::CreateRequest;
use sessd_proto::session::ShowRequest;
use sessd_tests::report::figure;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::{rounds, tools};
use uuid::Uuid;

use crate::BINARIES;
use crate::hostile_clients::Dice;
use crate::scene::NEVER;

const SOURCE: &str = include_str!("../src/synced.c");

/// An acknowledged change, and the bytes of log that were synced at that moment.
struct Promise {
    id: String,
    tag: String,
    trashed: bool,
    synced: usize,
}

/// A machine that knows what was synced, and where no job comes in between.
fn machine() -> Option<(Sandbox, PathBuf)> {
    let compiler = tools::require("cc")?;
    let mut sandbox = Sandbox::new(BINARIES);
    let source = sandbox.write("synced/synced.c", SOURCE);
    let library = source.with_extension("so");
    let mut cc = Command::new(compiler);
    let built = cc.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]).status();
    assert!(built.expect("a C compiler").success());
    let synced = sandbox.write("synced/bytes", "0");
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD='{}' SYNCED_OF=/sessd.db-wal SYNCED_TO='{}'\n\
         exec '{}' \"$@\"\n",
        library.display(),
        synced.display(),
        BINARIES.sessd,
    );
    let daemon = sandbox.script("synced/sessd", script);
    sandbox.set_env("SESSD_BIN", daemon.to_str().unwrap());
    for job in ["DISCOVERY", "HEARTBEAT", "CLEANUP"] {
        sandbox.set_env(&format!("SESSD_{job}_SCHEDULE"), NEVER);
    }
    Some((sandbox, synced))
}

/// Makes so many acknowledged changes while sweeps write others; the log is never restarted.
fn promises(sandbox: &Sandbox, synced: &Path, count: u64) -> Vec<Promise> {
    let cwd = sandbox.home().to_str().unwrap().to_owned();
    let over = AtomicBool::new(false);
    let sweep = || {
        let mut client = sandbox.client();
        for number in 0.. {
            let at = format!("2026-01-01T{:02}:{:02}:00Z", number / 60 % 24, number % 60);
            let record = format!(
                "{{\"at\":\"{at}\",\"cwd\":\"/\",\"role\":\"user\",\"text\":\"{number}\"}}\n"
            );
            sandbox.write(".local/state/sessd/echo/unpromised.jsonl", record);
            client.run_job(RunJobRequest { job: "discovery".to_owned() }).unwrap();
            if over.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    let mut client = sandbox.client();
    let mut promise = |number: u64| {
        let new =
            CreateRequest { agent: "echo".to_owned(), cwd: cwd.clone(), ..Default::default() };
        let new = CreateRequest { id: Uuid::new_v4().to_string(), ..new };
        let id = client.create(new).unwrap().session.id;
        let tag = format!("tag-{number}");
        let request = TagRequest { selector: id.clone(), tags: vec![tag.clone()] };
        client.tag(request).unwrap();
        let trashed = number.is_multiple_of(2);
        if trashed {
            client.delete(SelectorsRequest { selectors: vec![id.clone()] }).unwrap();
        }
        let synced = fs::read_to_string(synced).unwrap().parse().unwrap();
        Promise { id, tag, trashed, synced }
    };
    thread::scope(|scope| {
        scope.spawn(sweep);
        let promises = (0..count).map(&mut promise).collect();
        over.store(true, Ordering::Relaxed);
        promises
    })
}

#[test]
fn acknowledged_changes_survive_a_loss_of_power() {
    let Some((sandbox, synced)) = machine() else { return };
    // The first import copies the log back when it is over.
    sandbox.new_session("before");
    sandbox.json(&["jobs", "run", "discovery"]);
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    sandbox.wait_until_started();
    let main = sandbox.state_dir().join("sessd.db");
    let log = sandbox.state_dir().join("sessd.db-wal");
    let before = fs::read(&main).unwrap();
    let promises = promises(&sandbox, &synced, 20);
    sandbox.kill_daemon();
    let whole = fs::read(&log).unwrap();
    assert!(fs::read(&main).unwrap() == before, "the log was copied back: this test sees nothing");
    let count = rounds(10, 200);
    let mut kept = 0;
    for round in 0..count {
        let mut dice = Dice(round);
        let promise = &promises[dice.below(promises.len())];
        let mut torn = whole.clone();
        let what = lose(&mut torn, promise.synced, &mut dice);
        fs::write(&main, &before).unwrap();
        fs::write(&log, torn).unwrap();
        let _ = fs::remove_file(sandbox.state_dir().join("sessd.db-shm"));
        let held: Vec<&Promise> =
            promises.iter().filter(|held| held.synced <= promise.synced).collect();
        verify(&sandbox, &held, &format!("round {round}: {what}"));
        kept += held.len();
    }
    figure(&format!(
        "{count} losses of power within {} KiB of log: sound each time, \
         each of {kept} promises kept",
        whole.len() / 1024
    ));
}

/// Everything after what was synced is lost: cut off, or in part there, or garbage.
fn lose(log: &mut Vec<u8>, synced: usize, dice: &mut Dice) -> String {
    let rest = log.len() - synced;
    match dice.below(3) {
        0 => {
            log.truncate(synced);
            format!("cut at {synced}")
        }
        1 => {
            let more = dice.below(rest + 1).min(dice.below(20_000));
            log.truncate(synced + more);
            format!("cut {more} after {synced}")
        }
        _ => {
            let garbage = dice.bytes(rest.min(8_192));
            log.truncate(synced);
            log.extend(garbage);
            format!("garbage after {synced}")
        }
    }
}

fn verify(sandbox: &Sandbox, promises: &[&Promise], what: &str) {
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0, "{what}");
    let mut client = sandbox.client();
    assert_eq!(client.status(Default::default()).unwrap().problems, [""; 0], "{what}");
    for promise in promises {
        let shown = client.show(ShowRequest { selector: promise.id.clone() });
        let shown = shown.unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert!(shown.tags.contains(&promise.tag), "{what}: {shown:?}");
        assert_eq!(shown.trashed_at.is_some(), promise.trashed, "{what}");
    }
    sandbox.kill_daemon();
    let registry = Connection::open(sandbox.state_dir().join("sessd.db")).unwrap();
    let check = registry.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()), "{what}");
}
