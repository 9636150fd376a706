//! A damaged registry, one of a later version, and a broken configuration: the daemon starts
//! all the same, every call says why it serves nothing, and no byte is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::pause;

use crate::BINARIES;
use crate::bad_input::assert_fault;

fn database(sandbox: &Sandbox) -> PathBuf {
    sandbox.state_dir().join("sessd.db")
}

/// A registry with two sessions and no daemon.
fn with_sessions() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new(BINARIES);
    for prompt in ["one", "two"] {
        sandbox.new_session(prompt);
    }
    // Ids made by `send` are random; those of a sweep are the same in every registry.
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    let log = sandbox.state_dir().join("sessd.db-wal");
    assert!(fs::metadata(&log).map_or(true, |log| log.len() == 0), "the file is not complete");
    fs::remove_file(database(&sandbox)).unwrap();
    let mut ids = sandbox.ids();
    ids.sort();
    assert_eq!(ids.len(), 2);
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    (sandbox, ids)
}

/// Every call says what is wrong, and the daemon can still be asked how it is.
#[track_caller]
fn assert_degraded(sandbox: &Sandbox, words: &str) {
    for _ in 0..2 {
        for call in [&["list"][..], &["show", "abcd"], &["send", "--new", "echo", "x"]] {
            let output = sandbox.sessctl(call);
            assert_fault(&output, 1, &format!("{call:?}"));
            assert!(output.stderr.contains(words), "{call:?}: {}", output.stderr);
        }
        let status = sandbox.json(&["status"]);
        let problem = status["problems"][0].as_str().unwrap_or_default();
        assert!(problem.contains(words), "{status}");
        let doctor = sandbox.sessctl(&["doctor"]);
        assert_eq!(doctor.status, 1);
        assert!(doctor.stdout.contains(words), "{doctor:?}");
    }
    assert_eq!(sandbox.daemons().len(), 1);
}

/// Something that happens to the bytes of a registry.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_damaged_registry_is_put_aside_and_the_sessions_come_back() {
    let flip = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
    let damages: [(&str, Damage<'_>); 6] = [
        ("cut to nothing", &Vec::clear),
        ("garbage in its header", &|bytes| flip(&mut bytes[..100])),
        ("all garbage", &|bytes| flip(bytes)),
        ("cut in the middle", &|bytes| bytes.truncate(bytes.len() / 2 + 100)),
        ("cut after its header", &|bytes| bytes.truncate(100)),
        ("flipped pages", &|bytes| flip(&mut bytes[4096..8 * 4096])),
    ];
    let (sandbox, ids) = with_sessions();
    let sound = fs::read(database(&sandbox)).unwrap();
    for (damage, apply) in damages {
        let mut bytes = sound.clone();
        apply(&mut bytes);
        fs::write(database(&sandbox), &bytes).unwrap();
        let first = sandbox.sessctl(&["list"]);
        assert_fault(&first, 1, damage);
        assert!(first.stderr.contains("damaged"), "{damage}: {}", first.stderr);
        assert!(first.stderr.contains("daemon restart"), "{damage}: {}", first.stderr);
        assert_degraded(&sandbox, "put aside");
        assert!(kept(&sandbox).contains(&bytes), "{damage}: its bytes are not there any more");

        assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0, "{damage}");
        let mut back = sandbox.ids();
        back.sort();
        assert_eq!(back, ids, "{damage}");
        let doctor = sandbox.sessctl(&["doctor"]);
        assert!(doctor.stdout.contains("was put aside"), "{damage}: {doctor:?}");
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0, "{damage}");
    }
    assert_eq!(kept(&sandbox).len(), 6, "each damaged registry is kept");
}

/// SQLite's quick check does not compare them, and a list that goes by the index is wrong.
#[test]
fn an_index_that_disagrees_with_its_table_is_damage() {
    let (sandbox, ids) = with_sessions();
    // Changes a table behind the back of an index: it is not in the schema for a moment.
    let change = |sql: &str| {
        let registry = Connection::open(database(&sandbox)).unwrap();
        registry.execute_batch(&format!("PRAGMA writable_schema = ON; {sql}")).unwrap();
    };
    change(
        "CREATE TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = 'list_activity';
         DELETE FROM sqlite_schema WHERE name = 'list_activity'",
    );
    change("UPDATE sessions SET last_activity = last_activity - 1000000000");
    change("INSERT INTO sqlite_schema SELECT * FROM hidden; DROP TABLE hidden");
    let registry = Connection::open(database(&sandbox)).unwrap();
    let quick = registry.pragma_query_value(None, "quick_check", |row| row.get(0));
    assert_eq!(quick, Ok("ok".to_owned()));
    drop(registry);
    assert_degraded(&sandbox, "put aside");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    let mut back = sandbox.ids();
    back.sort();
    assert_eq!(back, ids);
}

#[test]
fn a_daemon_stopped_in_its_first_sweep_leaves_a_whole_file() {
    let sandbox = Sandbox::new(BINARIES);
    for number in 0..rounds(5, 500) {
        let record = serde_json::json!({
            "at": "2026-01-01T00:00:00Z", "cwd": "/", "role": "user",
            "text": format!("{number}"),
        });
        for transcript in 0..200 {
            sandbox.write(
                &format!(".local/state/sessd/echo/s-{transcript}.jsonl"),
                format!("{record}\n"),
            );
        }
        for folder in [sandbox.state_dir(), sandbox.state_dir().join("echo")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
        assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
        pause(Duration::from_millis(number % 20));
        assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
        let log = fs::metadata(sandbox.state_dir().join("sessd.db-wal"));
        assert!(log.map_or(true, |log| log.len() == 0), "round {number}: it is not complete");
    }
}

/// The contents of every registry that was put aside.
fn kept(sandbox: &Sandbox) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(sandbox.state_dir()).unwrap().flatten();
    let damaged = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    });
    damaged.map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn a_registry_of_a_later_version_is_left_alone() {
    let (sandbox, ids) = with_sessions();
    let set_version = |version: u32| {
        let connection = Connection::open(database(&sandbox)).unwrap();
        let present = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        connection.pragma_update(None, "user_version", version).unwrap();
        present.unwrap()
    };
    let present = set_version(99);
    let before = fs::read(database(&sandbox)).unwrap();
    assert_degraded(&sandbox, "version 99");
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    assert!(fs::read(database(&sandbox)).unwrap() == before, "it was changed");
    set_version(present);
    let mut back = sandbox.ids();
    back.sort();
    assert_eq!(back, ids);
}

#[test]
fn every_call_reports_a_broken_configuration() {
    let sandbox = Sandbox::new(BINARIES);
    let config = |text: &str| sandbox.write(".config/sessd/config.toml", text);
    config("[heartbeat]\nbach = 7\n");
    assert_degraded(&sandbox, "heartbeat.bach");
    let nearest = sandbox.sessctl(&["list"]);
    assert!(nearest.stderr.contains("did you mean `heartbeat.batch`?"), "{}", nearest.stderr);

    config("[heartbeat\n");
    assert_degraded(&sandbox, "heartbeat.bach");
    assert_eq!(sandbox.sessctl(&["daemon", "restart"]).status, 0);
    assert_degraded(&sandbox, "line 1");
    assert_eq!(sandbox.json(&["daemon", "stop"])["state"], "stopped");

    config("[heartbeat]\nbatch = 7\n");
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
    assert_eq!(sandbox.json(&["status"])["problems"], serde_json::json!([]));
}
