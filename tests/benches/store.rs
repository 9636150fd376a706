//! Lists from stores of three sizes: the whole `sessctl` process beside its peers, and the
//! depth of a page.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sessd::store::Store;
use sessd::store::bindings;
use sessd::store::import::{self, FoundSession};
use sessd_proto::client::Client;
use sessd_proto::session::ListRequest;
use sessd_proto::{Facts, Status, Timestamp};
use sessd_tests::sandbox::Sandbox;

use crate::timing::{Subject, medians, ms, process, ratio};
use crate::{BINARIES, kept, peers, row};

const ROUNDS: usize = 20;

pub(crate) fn lists(largest: usize) {
    for sessions in [1_000, 100_000, largest] {
        let sandbox = sandbox_with(&store_of(sessions));
        whole_process(&sandbox, &format!("{sessions} sessions"), sessions == largest);
        if sessions == largest {
            depth(&sandbox, sessions);
            memory(&sandbox, sessions);
        }
    }
}

/// Times a list as a shell sees it, and where asked for also what others take.
pub(crate) fn whole_process(sandbox: &Sandbox, at: &str, with_peers: bool) {
    let mut subjects = vec![
        process("true", sandbox, "true", &[]),
        process("list", sandbox, BINARIES.sessctl, &["list"]),
        process("version", sandbox, BINARIES.sessctl, &["--version"]),
    ];
    let peers = if with_peers { peers::talking_to_a_daemon(sandbox) } else { Vec::new() };
    subjects.extend(peers);
    let times = medians(&mut subjects, ROUNDS);
    let measured = format!("{:.2} × ({})", ratio(times[1], times[0]), ms(times[1]));
    row("`sessctl list` of 50 ÷ `true`", at, &measured, "≤ 2.5");
    let measured = format!("{:.2} × ({})", ratio(times[2], times[0]), ms(times[2]));
    row("`sessctl --version` ÷ `true`", at, &measured, "");
    for (subject, time) in subjects.iter().zip(&times).skip(3) {
        let measured = format!("{:.2} × ({})", ratio(times[1], *time), ms(*time));
        row(&format!("`sessctl list` ÷ `{}`", subject.name), at, &measured, "< 1");
    }
}

fn depth(sandbox: &Sandbox, sessions: usize) {
    let database = sandbox.state_dir().join("sessd.db");
    let reader = Connection::open(database).unwrap();
    let (key, seq): (i64, i64) = reader
        .query_row(
            "SELECT last_activity, seq FROM sessions ORDER BY last_activity DESC, seq DESC
             LIMIT 1 OFFSET ?1",
            [sessions as i64 * 99 / 100],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let socket = sandbox.runtime_dir().join("sessd/sessd.sock");
    let page = |name, after: Option<String>| {
        let mut client = Client::connect(&socket).unwrap();
        let run = move || {
            let request = ListRequest { after: after.clone(), ..ListRequest::default() };
            assert_eq!(client.list(request).unwrap().sessions.len(), 50);
        };
        Subject::new(name, run)
    };
    let deep = format!("activity.{key}.{seq}");
    let times = medians(&mut [page("first", None), page("deep", Some(deep))], 1_000);
    let measured = format!("{:.2} ({})", ratio(times[1], times[0]), ms(times[0]));
    row("page at 99 % depth ÷ first page", &format!("{sessions} sessions"), &measured, "≤ 1.5");
}

fn memory(sandbox: &Sandbox, sessions: usize) {
    let measured = format!("{:.1} MB", resident_mb(sandbox, "VmRSS"));
    row("daemon memory, after these lists", &format!("{sessions} sessions"), &measured, "≤ 15 MB");
}

/// Returns a value of the kernel about the daemon's memory, in MB.
pub(crate) fn resident_mb(sandbox: &Sandbox, field: &str) -> f64 {
    let pid = sandbox.daemon_pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024.0 / 1e6
}

fn sandbox_with(store: &Path) -> Sandbox {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    assert_eq!(sandbox.sessctl(&["daemon", "stop"]).status, 0);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.state_dir().join(format!("sessd.db{suffix}")));
    }
    fs::copy(store, sandbox.state_dir().join("sessd.db")).unwrap();
    assert_eq!(sandbox.sessctl(&["list"]).stdout.lines().count(), 50);
    sandbox
}

/// A registry of this many sessions, made once.
fn store_of(sessions: usize) -> PathBuf {
    let schema = include_bytes!("../../daemon/src/store/schema.sql");
    let version = schema.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    let path = kept().join(format!("{sessions}-{version:08x}.db"));
    if path.exists() {
        return path;
    }
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    drop(Store::open(&partial).unwrap());
    let mut connection = Connection::open(&partial).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.pragma_update(None, "cache_size", -400_000).unwrap();
    let home_id = bindings::remember_home(&connection, "bench", "/bench", &[].into()).unwrap();
    for start in (0..sessions).step_by(10_000) {
        let transaction = connection.transaction().unwrap();
        for number in start..(start + 10_000).min(sessions) {
            import::upsert(&transaction, &row_of(number, home_id)).unwrap();
        }
        transaction.commit().unwrap();
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    fs::rename(&partial, &path).unwrap();
    path
}

/// Spread over projects and time by a multiplier that is coprime to all moduli used here.
fn row_of(number: usize, home_id: i64) -> FoundSession {
    let spread = number as u64 * 2_654_435_761 % 1_000_000_007;
    let id = uuid::Uuid::from_u128(u128::from(spread) << 64 | number as u128).to_string();
    let last_activity = Timestamp(1_795_000_000_000 - spread as i64);
    let project = format!("/work/project-{:04}", number % 5_000);
    let facts = Facts {
        provider_session_id: id.clone(),
        launch_dir: project.clone(),
        title: Some(format!("fix the error in the parser of request number {number}")),
        model: Some("bench".to_owned()),
        git_branch: Some("main".to_owned()),
        created_at: last_activity.plus_ms(-3_600_000),
        last_activity,
        ..Facts::default()
    };
    FoundSession {
        provider: "bench".to_owned(),
        home_id,
        facts,
        location: format!("/bench/projects/{}/{id}.jsonl", number % 5_000),
        project,
        status: if number.is_multiple_of(7) { Status::Expired } else { Status::Active },
        expires_at: Some(last_activity.plus_ms(2_592_000_000)),
        at: last_activity,
        id,
        ..FoundSession::default()
    }
}
