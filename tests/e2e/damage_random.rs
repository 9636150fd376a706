//! A registry that is damaged at random, its log of changes too: SQLite's own full check says
//! beforehand what the daemon has to find at its start. Without damage that this check sees, it
//! serves; text that was changed into other text is beyond it, as SQLite has no checksums.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sessd_proto::change::{SelectorsRequest, TagRequest};
use sessd_proto::client::Client;
use sessd_proto::session::{ListRequest, ShowRequest};
use sessd_proto::status::StatusRequest;
use sessd_proto::{Fault, FaultCode};
use sessd_tests::report::figure;
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;

use crate::BINARIES;
use crate::hostile_clients::Dice;
use crate::scene::NEVER;

const SESSIONS: usize = 100;

/// The files of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    main: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    fn of(main: &Path) -> Self {
        let log = fs::read(side(main, "-wal")).unwrap_or_default();
        Self { main: fs::read(main).unwrap(), log }
    }

    fn write(&self, main: &Path) {
        fs::write(main, &self.main).unwrap();
        let _ = fs::remove_file(side(main, "-shm"));
        let log = side(main, "-wal");
        if self.log.is_empty() {
            let _ = fs::remove_file(log);
        } else {
            fs::write(log, &self.log).unwrap();
        }
    }

    /// Changes a byte, a few or a page of them, or cuts one of the files; returns a description of
    /// it.
    fn damage(&mut self, dice: &mut Dice) -> String {
        let is_log = !self.log.is_empty() && dice.below(3) == 0;
        let (name, bytes) = if is_log { ("log", &mut self.log) } else { ("main", &mut self.main) };
        // Every fourth time in the header, which is small and matters most.
        let end = if dice.below(4) == 0 { 100 } else { bytes.len() };
        let at = dice.below(end);
        let kind = dice.below(4);
        if kind == 0 {
            bytes.truncate(at);
            return format!("{name} cut at {at}");
        }
        let count = [0, 1, 8, 4096][kind].min(bytes.len() - at);
        for byte in &mut bytes[at..at + count] {
            *byte ^= 1 + dice.roll().to_le_bytes()[0] % 255;
        }
        format!("{name}: {count} changed at {at}")
    }

    /// Returns SQLite's verdict on a copy.
    fn verdict(&self, scratch: &Path) -> Verdict {
        self.write(scratch);
        let look = || -> rusqlite::Result<Verdict> {
            let copy = Connection::open(scratch)?;
            let version: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let check = copy.pragma_query_value(None, "integrity_check", check)?;
            Ok(match (&*check, version) {
                ("ok", _) if !is_text(&copy)? => Verdict::Damaged,
                ("ok", VERSION) => Verdict::Sound,
                ("ok", newer) if newer > VERSION => Verdict::Newer,
                _ => Verdict::Damaged,
            })
        };
        // SQLite would take a torn one for an empty registry, or go by the log alone; we do not.
        if !self.main.starts_with(b"SQLite format 3\0") {
            Verdict::Damaged
        } else {
            look().unwrap_or(Verdict::Damaged)
        }
    }
}

/// True if all text is UTF-8, which SQLite's check does not look at.
fn is_text(copy: &Connection) -> rusqlite::Result<bool> {
    let mut tables = copy.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    for table in tables.query_map([], |row| row.get::<_, String>(0))? {
        let mut rows = copy.prepare(&format!("SELECT * FROM {}", table?))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let value = row.get_ref(column)?;
                if matches!(value, ValueRef::Text(text) if std::str::from_utf8(text).is_err()) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// The present version of the schema.
const VERSION: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Sound,
    Newer,
    Damaged,
}

fn side(main: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", main.display()))
}

/// A registry of many sessions, whole in its file, and with its last changes in its log.
fn images(sandbox: &Sandbox) -> (BTreeSet<String>, [Image; 2]) {
    for number in 0..SESSIONS {
        let at = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60);
        let record = serde_json::json!({
            "at": at, "cwd": sandbox.home().join(format!("project-{}", number % 7)),
            "role": "user", "text": format!("prompt {number} {}", "words ".repeat(number % 12)),
        });
        let name = format!(".local/state/sessd/echo/{:08x}-session.jsonl", number * 7919);
        sandbox.write(&name, format!("{record}\n"));
    }
    let private: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    for dir in [sandbox.state_dir(), sandbox.state_dir().join("echo")] {
        fs::set_permissions(dir, private.clone()).unwrap();
    }
    let ids: BTreeSet<String> = sandbox.ids().into_iter().collect();
    assert_eq!(ids.len(), SESSIONS);
    let mut client = sandbox.client();
    for (number, id) in ids.iter().enumerate() {
        let selectors = vec![id.clone()];
        let tags = vec![format!("tag-{}", number % 5), "all".to_owned()];
        client.tag(TagRequest { selector: id.clone(), tags }).unwrap();
        match number % 10 {
            0 => drop(client.pin(SelectorsRequest { selectors }).unwrap()),
            1 => drop(client.delete(SelectorsRequest { selectors }).unwrap()),
            _ => {}
        }
    }
    sandbox.kill_daemon();
    let database = sandbox.state_dir().join("sessd.db");
    let unsettled = Image::of(&database);
    assert!(unsettled.log.len() > 100_000, "{}", unsettled.log.len());
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let settled = Image::of(&database);
    assert!(settled.log.is_empty());
    (ids, [settled, unsettled])
}

/// The ids of all sessions, those in the trash too.
fn listed(client: &mut Client) -> Result<BTreeSet<String>, Fault> {
    let mut ids = BTreeSet::new();
    for trash in [false, true] {
        let page = client.list(ListRequest { trash, limit: 500, ..ListRequest::default() })?;
        ids.extend(page.sessions.into_iter().map(|session| session.id));
    }
    Ok(ids)
}

/// Calls that read and write; each is done or says what is wrong with the registry.
fn call_everything(client: &mut Client, id: &str, what: &str) -> Vec<FaultCode> {
    let tag = || TagRequest { selector: id.to_owned(), tags: vec!["more".to_owned()] };
    let one = || SelectorsRequest { selectors: vec![id.to_owned()] };
    let results = [
        client.show(ShowRequest { selector: id.to_owned() }).err(),
        client.list(ListRequest { tag: Some("all".to_owned()), ..Default::default() }).err(),
        client.tag(tag()).err(),
        client.untag(tag()).err(),
        client.unpin(one()).err(),
        client.delete(one()).err(),
        client.undelete(one()).err(),
        client.cleanup(Default::default()).err(),
        client.jobs(Default::default()).err(),
        client.run_job(sessd_proto::job::RunJobRequest { job: "discovery".to_owned() }).err(),
        client.run_job(sessd_proto::job::RunJobRequest { job: "heartbeat".to_owned() }).err(),
        client.doctor(Default::default()).err(),
        client.status(StatusRequest {}).err(),
    ];
    let faults: Vec<Fault> = results.into_iter().flatten().collect();
    for fault in &faults {
        let typed = [FaultCode::RegistryDamaged, FaultCode::RegistryNewer];
        assert!(typed.contains(&fault.code), "{what}: {fault:?}");
        assert!(fault.hint.is_some(), "{what}: {fault:?}");
    }
    faults.into_iter().map(|fault| fault.code).collect()
}

#[test]
fn the_daemon_finds_every_damage_that_sqlite_finds() {
    let mut sandbox = Sandbox::new(BINARIES);
    for job in ["DISCOVERY", "HEARTBEAT", "CLEANUP"] {
        sandbox.set_env(&format!("SESSD_{job}_SCHEDULE"), NEVER);
    }
    let (ids, images) = images(&sandbox);
    let scratch = sandbox.dir("scratch").join("copy.db");
    let count = rounds(12, 200);
    let mut seen = [0; 3];
    for round in 0..count {
        let mut dice = Dice(round);
        let mut image = images[usize::try_from(round % 2).unwrap()].clone();
        let what = format!("round {round}: {}", image.damage(&mut dice));
        let verdict = image.verdict(&scratch);
        seen[verdict as usize] += 1;
        fresh(&sandbox);
        image.write(&sandbox.state_dir().join("sessd.db"));
        judge(&sandbox, &ids, &image, verdict, &what);
    }
    let [sound, newer, damaged] = seen;
    figure(&format!(
        "{count} registries damaged at random: {damaged} found and put aside, {newer} of another \
         version refused, {sound} without damage that SQLite can see served"
    ));
}

/// Takes away what the round before has left.
fn fresh(sandbox: &Sandbox) {
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    for entry in fs::read_dir(sandbox.state_dir()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("sessd.db") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Starts the daemon on a registry of this verdict.
fn judge(sandbox: &Sandbox, ids: &BTreeSet<String>, image: &Image, verdict: Verdict, what: &str) {
    let what = &format!("{what}, {verdict:?}");
    let id = ids.first().unwrap();
    let started = sandbox.sessctl(&["daemon", "start"]);
    assert_eq!(started.status, 0, "{what}: {started:?}");
    let daemon = sandbox.daemon_pid();
    let mut client = sandbox.client();
    let faults = call_everything(&mut client, id, what);
    let problems = client.status(StatusRequest {}).unwrap().problems;
    assert_eq!(sandbox.daemon_pid(), daemon, "{what}: it is another daemon");
    let main = sandbox.state_dir().join("sessd.db");
    match verdict {
        Verdict::Sound => {
            assert_eq!((&*faults, &*problems), (&[][..], &[][..]), "{what}");
            let found = listed(&mut client).unwrap();
            assert!(found == *ids, "{what}: {:?}", found.symmetric_difference(ids));
        }
        Verdict::Newer => {
            assert!(faults.iter().all(|code| *code == FaultCode::RegistryNewer), "{what}");
            assert!(problems[0].contains("schema version"), "{what}: {problems:?}");
            assert!(Image::of(&main).main == image.main, "{what}: it was changed");
        }
        Verdict::Damaged => {
            assert!(faults.len() > 5, "{what}: it pretends that all is well");
            assert!(problems[0].contains("put aside"), "{what}: {problems:?}");
            assert!(!main.exists(), "{what}: a new one was made without a word");
            let kept = kept(sandbox);
            assert!(Image::of(&kept) == *image, "{what}: not every byte was kept");
            assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0, "{what}");
            let found = listed(&mut sandbox.client()).unwrap();
            assert!(found == *ids, "{what}: {:?}", found.symmetric_difference(ids));
        }
    }
}

/// The one registry that was put aside.
fn kept(sandbox: &Sandbox) -> PathBuf {
    let entries = fs::read_dir(sandbox.state_dir()).unwrap().flatten();
    let names = entries.map(|entry| entry.path().to_string_lossy().into_owned());
    let is_main = |name: &String| {
        name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let kept: Vec<String> = names.filter(is_main).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    kept[0].clone().into()
}
