//! A day in seconds: every job runs every second while callers change sessions as fast as they
//! can. Nothing may grow but what is kept on purpose: memory, descriptors, tables, files.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sessd_proto::change::TagRequest;
use sessd_proto::cleanup::CleanupRequest;
use sessd_proto::session::ListRequest;
use sessd_tests::report::figure;
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::pause;

use crate::BINARIES;
use crate::hostile_clients::descriptors;
use crate::limits::memory;

/// Events that the writer makes in one round, by tags that it puts on and takes off again.
const EVENTS_A_ROUND: u64 = 2_000;

/// Tags of one call.
const TAGS: u64 = 100;

/// The limits of `[retention]`.
const EVENTS_KEPT: i64 = 5_000;
const RUNS_KEPT: i64 = 3;
const TURNS_KEPT: i64 = 20;

/// Looks at the clocks that are kept, whatever the configuration says.
const LOOKS_KEPT: i64 = 100;

const MIB: u64 = 1024 * 1024;

/// 4,000 pages are written before the log is copied back and restarted, and a transaction may
/// still come in between; what is more than 8 MiB is cut off then.
const LOG_MAX: u64 = 24 * MIB;

/// The growth of memory that is allowed in the second half of the time, in bytes.
const GROWTH_MAX: f64 = 8.0 * MIB as f64;

/// The sizes at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    events: u64,
    memory: u64,
    descriptors: usize,
    main: u64,
    log: u64,
}

fn sample(sandbox: &Sandbox, events: u64) -> Sample {
    let size = |name: &str| fs::metadata(sandbox.state_dir().join(name)).map_or(0, |m| m.len());
    Sample {
        events,
        memory: memory(sandbox),
        descriptors: descriptors(sandbox),
        main: size("sessd.db"),
        log: size("sessd.db-wal"),
    }
}

/// A machine on which every job runs every second and little is kept.
fn machine() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new(BINARIES);
    let every_second = "schedule = \"* * * * * *\"";
    let config = format!(
        "[discovery]\n{every_second}\n[heartbeat]\n{every_second}\nfresh_s = 0\n\
         [cleanup]\n{every_second}\n[retention]\nevents = {EVENTS_KEPT}\n\
         turns = {TURNS_KEPT}\njob_runs = {RUNS_KEPT}\n"
    );
    sandbox.write(".config/sessd/config.toml", config);
    let ids = (0..8).map(|number| sandbox.new_session(&format!("session {number}"))).collect();
    (sandbox, ids)
}

#[test]
fn a_daemon_under_constant_work_does_not_grow() {
    let (sandbox, ids) = machine();
    let wanted = rounds(50, 500) * EVENTS_A_ROUND;
    let (made, turns, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let mut samples = thread::scope(|scope| {
        let writer = scope.spawn(|| tag_and_untag(&sandbox, &ids, wanted, &made));
        scope.spawn(|| send(&sandbox, &ids[0], &over, &turns));
        scope.spawn(|| touch(&sandbox, &ids, &over));
        let samples = scope.spawn(|| watch(&sandbox, &made, &over));
        // Whatever comes of one, the others end.
        let written = writer.join();
        over.store(true, Ordering::Relaxed);
        written.and(samples.join()).unwrap()
    });
    samples.push(sample(&sandbox, made.load(Ordering::Relaxed)));
    assert_memory(&samples);
    assert_descriptors(&samples);
    assert_files(&samples);
    assert_tables(&sandbox, turns.into_inner());
}

/// Lists and takes samples again and again.
fn watch(sandbox: &Sandbox, made: &AtomicU64, over: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        samples.push(sample(sandbox, made.load(Ordering::Relaxed)));
        sandbox.client().list(ListRequest::default()).unwrap();
        pause(Duration::from_millis(50));
    }
    samples
}

/// Makes this many events, all through one connection.
fn tag_and_untag(sandbox: &Sandbox, ids: &[String], wanted: u64, made: &AtomicU64) {
    let mut client = sandbox.client();
    for id in ids.iter().cycle() {
        let tags = (0..TAGS).map(|number| format!("tag-{number}")).collect();
        let request = TagRequest { selector: id.clone(), tags };
        client.tag(request.clone()).unwrap();
        client.untag(request).unwrap();
        if made.fetch_add(2 * TAGS, Ordering::Relaxed) + 2 * TAGS >= wanted {
            break;
        }
    }
}

/// Has turns run, one after the other.
fn send(sandbox: &Sandbox, id: &str, over: &AtomicBool, turns: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        assert_eq!(sandbox.sessctl(&["send", id, "more"]).status, 0);
        turns.fetch_add(1, Ordering::Relaxed);
        pause(Duration::from_millis(50));
    }
}

/// Goes on with sessions behind the daemon's back.
fn touch(sandbox: &Sandbox, ids: &[String], over: &AtomicBool) {
    for (number, id) in ids[1..].iter().cycle().enumerate() {
        let path = sandbox.state_dir().join(format!("echo/{id}.jsonl"));
        let at = format!("2026-01-01T{:02}:{:02}:00Z", number / 60 % 24, number % 60);
        let record = serde_json::json!({ "at": at, "cwd": "/", "role": "user", "text": "more" });
        let written = fs::read_to_string(&path).unwrap();
        // Kept short: how much of it is read does not matter here.
        let begin: Vec<&str> = written.lines().take(2).collect();
        fs::write(&path, format!("{}\n{record}\n", begin.join("\n"))).unwrap();
        if over.load(Ordering::Relaxed) {
            break;
        }
        pause(Duration::from_millis(20));
    }
}

fn second_half(samples: &[Sample]) -> &[Sample] {
    let middle = samples.last().unwrap().events / 2;
    let begin = samples.iter().position(|sample| sample.events >= middle).unwrap();
    &samples[begin..]
}

fn assert_memory(samples: &[Sample]) {
    let half = second_half(samples);
    assert!(half.len() >= 5, "{} samples are too few", half.len());
    let points = || half.iter().map(|sample| (sample.events as f64, sample.memory as f64));
    let count = half.len() as f64;
    let (events, memory) = points().fold((0.0, 0.0), |(x, y), (dx, dy)| (x + dx, y + dy));
    let (events, memory) = (events / count, memory / count);
    let spread: f64 = points().map(|(x, _)| (x - events).powi(2)).sum();
    let slope = points().map(|(x, y)| (x - events) * (y - memory)).sum::<f64>() / spread;
    let made = (half[half.len() - 1].events - half[0].events) as f64;
    let growth = slope * made;
    figure(&format!(
        "soak, {} events through the socket: in the second half memory is {:.1} MiB and grows by \
         {:.0} bytes for 1,000 events, {:.0} KiB in all",
        samples.last().unwrap().events,
        memory / MIB as f64,
        slope * 1_000.0,
        growth / 1024.0
    ));
    assert!(growth < GROWTH_MAX, "memory grows by {growth} bytes: {half:?}");
}

/// Children and callers come and go, so it is the least of each half that has to be the same.
fn assert_descriptors(samples: &[Sample]) {
    let half = second_half(samples);
    let least = |samples: &[Sample]| samples.iter().map(|s| s.descriptors).min().unwrap();
    let (first, second) = (least(&samples[..=samples.len() - half.len()]), least(half));
    figure(&format!(
        "soak: at least {first} descriptors in the first half, {second} in the second"
    ));
    assert!(second <= first, "descriptors leak: {samples:?}");
}

fn assert_files(samples: &[Sample]) {
    let half = second_half(samples);
    let main = |samples: &[Sample]| samples.iter().map(|s| s.main).max().unwrap();
    let (first, second) = (main(&samples[..=samples.len() - half.len()]), main(half));
    let log = samples.iter().map(|sample| sample.log).max().unwrap();
    figure(&format!(
        "soak: the registry has at most {} KiB in the first half, {} KiB in the second; its log \
         at most {} KiB",
        first / 1024,
        second / 1024,
        log / 1024
    ));
    assert!(log <= LOG_MAX, "the log of changes grows: {log}");
    assert!(second <= 2 * first + 4 * MIB, "pages are not used again: {first}, {second}");
}

fn assert_tables(sandbox: &Sandbox, turns: u64) {
    sandbox.client().cleanup(CleanupRequest::default()).unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let registry =
        Connection::open_with_flags(sandbox.state_dir().join("sessd.db"), flags).unwrap();
    let number = |sql: &str| registry.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let count = |table: &str| number(&format!("SELECT count(*) FROM {table}"));
    let ever = number("SELECT max(seq) FROM events");
    let runs = number("SELECT max(seq) FROM job_runs");
    let tables = ["events", "job_runs", "turns", "looks"].map(count);
    figure(&format!(
        "soak: of {ever} events, {runs} runs of jobs and {turns} turns are left: {tables:?} rows \
         of events, runs, turns, looks"
    ));
    // Events that jobs make after the cleanup, and the three jobs under way.
    let kept = [EVENTS_KEPT + 100, 3 * (RUNS_KEPT + 1), TURNS_KEPT + 2, LOOKS_KEPT];
    for (rows, kept) in tables.into_iter().zip(kept) {
        assert!(rows <= kept, "{tables:?} is more than {kept:?}");
    }
    assert!(turns > 0 && runs > 3, "{turns} turns, {runs} runs: it was no soak");
    let check = registry.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
}
