//! Whatever the umask: every file that the daemon ever makes is private, the rare ones too.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;
use sessd_tests::report::figure;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::autostart::look;

const FIRST_VERSION: &str = include_str!("../../daemon/src/store/migrations/1_first.sql");

/// Makes the files that exist only after an update, a long life or damage.
const RARE: [&str; 7] = [
    "sessd.db-reserve",
    "sessd.db.v1",
    "sessd.log.1",
    "sessd.db.suspect",
    "sessd.db.damaged-*",
    "sessd.db.damaged-*-wal",
    "sessd.db.damaged-*-shm",
];

fn open_handed(sandbox: &Sandbox, words: &str) -> Output {
    let script = format!("umask 000; exec {} {words}", BINARIES.sessctl);
    sandbox.run(sandbox.command("sh").args(["-c", &script]), DEADLINE)
}

#[test]
fn the_rare_files_are_private_too() {
    let sandbox = Sandbox::new(BINARIES);
    let state = sandbox.state_dir();
    let database = state.join("sessd.db");
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let old = Connection::open(&database).unwrap();
    old.execute_batch(&format!("{FIRST_VERSION}; PRAGMA user_version = 1")).unwrap();
    drop(old);
    fs::set_permissions(&database, fs::Permissions::from_mode(0o666)).unwrap();

    assert_eq!(open_handed(&sandbox, "send --new echo hello").status, 0);
    assert_eq!(open_handed(&sandbox, "daemon stop").status, 0);
    let log = fs::File::options().append(true).open(state.join("sessd.log")).unwrap();
    log.set_len(5 * 1024 * 1024 + 1).unwrap();
    assert_eq!(open_handed(&sandbox, "daemon start").status, 0);
    let other = Connection::open(&database).unwrap();
    other.execute("UPDATE sessions SET title = CAST(x'ff' AS TEXT)", []).unwrap();
    let met = open_handed(&sandbox, "list");
    assert!(met.stderr.contains("daemon restart"), "the damage is not met: {met:?}");
    let mut seen = Vec::new();
    look(&state, &mut seen);
    sandbox.kill_daemon();
    let found = open_handed(&sandbox, "list");
    assert!(found.stderr.contains("put aside"), "{found:?}");
    look(&state, &mut seen);
    assert_eq!(open_handed(&sandbox, "daemon restart").status, 0);
    assert_eq!(open_handed(&sandbox, "list").status, 0);
    look(&state, &mut seen);
    look(&sandbox.runtime_dir().join("sessd"), &mut seen);
    drop(other);

    for rare in RARE {
        let (begin, end) = rare.split_once('*').unwrap_or((rare, ""));
        let matches = |name: &String| name.starts_with(begin) && name.ends_with(end);
        assert!(seen.iter().any(matches), "no {rare} in {seen:?}");
    }
    seen.sort();
    seen.dedup();
    figure(&format!(
        "{} files and folders under umask 000: 600 and 700, no other mode",
        seen.len()
    ));
}
