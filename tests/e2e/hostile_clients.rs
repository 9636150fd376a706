//! Many hostile clients at once cost other clients nothing: the daemon lives, others are served,
//! memory and descriptors come back to where they were.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use sessd_proto::change::{SelectorsRequest, TagRequest, TitleRequest};
use sessd_proto::cleanup::CleanupRequest;
use sessd_proto::doctor::DoctorRequest;
use sessd_proto::job::{JobsRequest, RunJobRequest};
use sessd_proto::launch::{CreateRequest, EnvironmentRequest, ResumeRequest};
use sessd_proto::preface::Preface;
use sessd_proto::provider::ProvidersRequest;
use sessd_proto::service::SessdRequest;
use sessd_proto::session::{CheckRequest, ListRequest, ShowRequest};
use sessd_proto::status::StatusRequest;
use sessd_proto::turn::{SendRequest, TurnOutputRequest};
use sessd_tests::report::figure;
use sessd_tests::rounds;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, pause, wait_until};

use crate::BINARIES;
use crate::limits::{GROWTH_MAX, assert_serves, dial, frame, greeted, memory, started};

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll().to_le_bytes()[0]).collect()
    }
}

/// A whole frame of every RPC, with content that means nothing.
fn valid_frames() -> Vec<Vec<u8>> {
    macro_rules! each {
        ($($variant:ident($request:ty)),+) => {
            vec![$(SessdRequest::$variant { request: <$request>::default() }),+]
        };
    }
    let requests = each![
        List(ListRequest),
        Show(ShowRequest),
        Check(CheckRequest),
        Resume(ResumeRequest),
        Environment(EnvironmentRequest),
        Send(SendRequest),
        TurnOutput(TurnOutputRequest),
        Providers(ProvidersRequest),
        Jobs(JobsRequest),
        RunJob(RunJobRequest),
        Status(StatusRequest),
        Doctor(DoctorRequest),
        Create(CreateRequest),
        Delete(SelectorsRequest),
        Undelete(SelectorsRequest),
        Pin(SelectorsRequest),
        Unpin(SelectorsRequest),
        Tag(TagRequest),
        Untag(TagRequest),
        Title(TitleRequest),
        Cleanup(CleanupRequest)
    ];
    requests.into_iter().map(|request| frame(1, request, Duration::from_secs(5))).collect()
}

/// Bytes that are not a frame, or only nearly one.
fn fuzzed(dice: &mut Dice, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = valid[dice.below(valid.len())].clone();
    match dice.below(8) {
        0 => {
            let count = dice.below(200);
            let body = dice.bytes(count);
            [&u32::try_from(count).unwrap().to_be_bytes()[..], &body].concat()
        }
        1 => {
            let count = dice.below(64);
            dice.bytes(count)
        }
        2 => {
            bytes.truncate(dice.below(bytes.len()));
            bytes
        }
        3 => [&[0xff; 4][..], &bytes[4..]].concat(),
        // The deadline's seconds as the largest integer.
        4 => {
            let mut absurd = [&bytes[4..5], &[253], &[0xff; 8], &bytes[6..]].concat();
            absurd.splice(..0, u32::try_from(absurd.len()).unwrap().to_be_bytes());
            absurd
        }
        _ => {
            for _ in 0..=dice.below(3) {
                let at = 4 + dice.below(bytes.len() - 4);
                bytes[at] = dice.bytes(1)[0];
            }
            bytes
        }
    }
}

/// Counts the files that the daemon has open; 0 if they are closed to us, as to all but root.
pub(crate) fn descriptors(sandbox: &Sandbox) -> usize {
    let pid = sandbox.daemon_pid().unwrap();
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[track_caller]
fn assert_comes_back(sandbox: &Sandbox, (bytes, count): (u64, usize), what: &str) {
    wait_until("the descriptors of the start", DEADLINE, || {
        (descriptors(sandbox) <= count).then_some(())
    });
    let grown = wait_until("the memory of the start", DEADLINE, || {
        Some(memory(sandbox).saturating_sub(bytes)).filter(|grown| *grown < GROWTH_MAX)
    });
    figure(&format!("{what}: {} KiB more than at the start, {count} descriptors", grown / 1024));
}

/// Returns memory and descriptors of an idle daemon.
fn at_rest(sandbox: &Sandbox) -> (u64, usize) {
    sandbox.wait_until_started();
    (memory(sandbox), descriptors(sandbox))
}

#[test]
fn fuzzed_frames_leave_the_daemon_unharmed() {
    const FRAMES_A_ROUND: u64 = 2_000;
    let sandbox = started();
    let before = at_rest(&sandbox);
    let daemon = sandbox.daemon_pid();
    let (valid, wrong) = (valid_frames(), Preface { protocol: 99, ..Preface::current(false) });
    let count = rounds(5, 500) * FRAMES_A_ROUND;
    let fuzz = |seed: u64| {
        let mut dice = Dice(seed);
        for number in 0..count / 2 {
            let mut stream = dial(&sandbox);
            let preface = if number % 100 == 0 { wrong } else { Preface::current(false) };
            let bytes = [&preface.to_bytes()[..], &fuzzed(&mut dice, &valid)].concat();
            // It may have hung up already.
            let _ = stream.write_all(&bytes);
            if number % 1_000 == 0 {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0; 4096]);
                assert_serves(&sandbox, "fuzzed frames");
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| fuzz(1));
        fuzz(2);
    });
    assert_eq!(sandbox.daemon_pid(), daemon, "it is another daemon");
    assert_comes_back(&sandbox, before, &format!("{count} fuzzed frames"));
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
}

/// Connections that each do a little of what they should.
fn misbehaving(sandbox: &Sandbox) -> Vec<UnixStream> {
    let list = frame(1, SessdRequest::List { request: ListRequest::default() }, DEADLINE);
    let half = |_| {
        let mut stream = greeted(sandbox);
        stream.write_all(&list[..list.len() / 2]).unwrap();
        stream
    };
    let never_reads = |_| {
        let mut stream = greeted(sandbox);
        for _ in 0..20 {
            let _ = stream.write_all(&list);
        }
        stream
    };
    let half_closed = |_| {
        let mut stream = greeted(sandbox);
        let _ = stream.write_all(&list);
        let _ = stream.shutdown(Shutdown::Write);
        stream
    };
    let mut all: Vec<_> = (0..300).map(half).collect();
    all.extend((0..20).map(never_reads));
    all.extend((0..20).map(half_closed));
    all
}

#[test]
fn slow_clients_do_not_slow_down_others() {
    let sandbox = started();
    let before = at_rest(&sandbox);
    let call = || {
        let started = Instant::now();
        assert!(sandbox.client().list(ListRequest::default()).is_ok());
        started.elapsed()
    };
    let worst = |calls: &mut Vec<Duration>| {
        calls.sort_unstable();
        calls[calls.len() * 99 / 100]
    };
    let mut alone: Vec<_> = (0..300).map(|_| call()).collect();
    let list = frame(1, SessdRequest::List { request: ListRequest::default() }, DEADLINE);
    let mut slow: Vec<_> = (0..200).map(|_| greeted(&sandbox)).collect();
    let mut crowded = Vec::new();
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < Duration::from_secs(7) {
        // A byte each second, so that none of them completes in time.
        if started.elapsed().as_secs() >= sent {
            let byte = &list[usize::try_from(sent).unwrap()..][..1];
            slow.retain_mut(|stream| stream.write_all(byte).is_ok());
            sent += 1;
        }
        crowded.push(call());
    }
    let (alone, crowded) = (worst(&mut alone), worst(&mut crowded));
    figure(&format!("99th percentile: {alone:?} alone, {crowded:?} beside 200 slow clients"));
    for stream in &mut slow {
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let others = misbehaving(&sandbox);
    assert_serves(&sandbox, "340 clients that misbehave");
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
    drop(others);
    assert_comes_back(&sandbox, before, "540 clients that misbehave");
}

/// Processor time of the daemon so far, in clock ticks.
fn ticks(sandbox: &Sandbox) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", sandbox.daemon_pid().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_daemon_out_of_descriptors_still_serves() {
    let mut sandbox = Sandbox::new(BINARIES);
    let script =
        format!("#!/bin/sh\nulimit -Sn 48 && ulimit -Hn 48 && exec '{}' \"$@\"\n", sandbox.sessd());
    let program = sandbox.script("few-descriptors", script);
    sandbox.set_env("SESSD_BIN", program.to_str().unwrap());
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", sandbox.daemon_pid().unwrap()));
    assert!(limits.unwrap().lines().any(|it| it.contains("open files") && it.contains(" 48 ")));

    let idle: Vec<_> = (0..100).map(|_| greeted(&sandbox)).collect();
    let open = descriptors(&sandbox);
    assert!(open == 0 || open >= 45, "{open} descriptors");
    let before = ticks(&sandbox);
    for _ in 0..20 {
        assert_eq!(sandbox.sessctl(&["list"]).status, 0);
    }
    pause(Duration::from_secs(1));
    figure(&format!(
        "out of descriptors: {} ticks for 20 calls and a second",
        ticks(&sandbox) - before
    ));
    drop(idle);
    assert_serves(&sandbox, "many idle connections");
    let turn = sandbox.new_session("one");
    assert_eq!(sandbox.ids(), [turn]);
}
