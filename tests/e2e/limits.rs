//! A client that misbehaves on the socket costs other clients nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use sessd_proto::PROTOCOL_VERSION;
use sessd_proto::codec::{self, REQUEST_BYTES_MAX};
use sessd_proto::preface::{LENGTH, Preface};
use sessd_proto::service::{SessdRequest, SessdResponse};
use sessd_proto::session::ListRequest;
use sessd_proto::status::StatusRequest;
use sessd_proto::turn::{SendRequest, TurnOutputRequest};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};
use tarpc::{ClientMessage, Request, Response};
use uuid::Uuid;

use crate::BINARIES;

/// The growth of the daemon's memory that a client may cause, in bytes.
pub(crate) const GROWTH_MAX: u64 = 64 * 1024 * 1024;

pub(crate) fn started() -> Sandbox {
    let sandbox = Sandbox::new(BINARIES);
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    sandbox
}

pub(crate) fn dial(sandbox: &Sandbox) -> UnixStream {
    let stream = UnixStream::connect(sandbox.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A connection whose prefaces have been exchanged.
pub(crate) fn greeted(sandbox: &Sandbox) -> UnixStream {
    let mut stream = dial(sandbox);
    stream.write_all(&Preface::current(false).to_bytes()).unwrap();
    let mut theirs = [0; LENGTH];
    stream.read_exact(&mut theirs).unwrap();
    assert!(Preface::from_bytes(theirs).is_some_and(|p| p.protocol == PROTOCOL_VERSION));
    stream
}

pub(crate) fn frame(id: u64, message: SessdRequest, deadline: Duration) -> Vec<u8> {
    let mut context = tarpc::context::current();
    context.deadline = Instant::now() + deadline;
    let request = ClientMessage::Request(Request { context, id, message });
    let body = codec::encode(&request).unwrap();
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

pub(crate) fn status(id: u64) -> Vec<u8> {
    frame(id, SessdRequest::Status { request: StatusRequest {} }, Duration::from_secs(5))
}

pub(crate) fn answer(stream: &mut UnixStream) -> Response<SessdResponse> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    codec::decode(&(&body[..]).into()).unwrap()
}

/// Returns the time until the daemon hangs up; what it says before is read and dropped.
#[track_caller]
fn hang_up(stream: &mut UnixStream) -> Duration {
    let started = Instant::now();
    match io::copy(stream, &mut io::sink()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    started.elapsed()
}

/// These bytes end a connection at once: before one that began earlier and of which more is
/// awaited. Again where the machine was busy with something else for as long as that may take.
#[track_caller]
fn assert_hangs_up_before(
    sandbox: &Sandbox,
    connect: fn(&Sandbox) -> UnixStream,
    wrong: &[u8],
    incomplete: &[u8],
    what: &str,
) {
    wait_until(&format!("a quick end after {what}"), DEADLINE, || {
        let mut awaited = connect(sandbox);
        awaited.write_all(incomplete).unwrap();
        let mut stream = connect(sandbox);
        stream.write_all(wrong).unwrap();
        hang_up(&mut stream);
        awaited.set_nonblocking(true).unwrap();
        // It may have been greeted, but not more.
        let read = io::copy(&mut awaited, &mut io::sink());
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock).then_some(())
    });
}

#[track_caller]
pub(crate) fn assert_serves(sandbox: &Sandbox, after: &str) {
    let served = sandbox.client().status(StatusRequest {});
    assert!(served.is_ok(), "after {after}: {served:?}");
    assert_eq!(sandbox.daemons().len(), 1, "after {after}");
}

pub(crate) fn memory(sandbox: &Sandbox) -> u64 {
    sandbox.client().status(StatusRequest {}).unwrap().memory_bytes
}

#[test]
fn bytes_that_are_not_a_preface_end_the_connection() {
    let sandbox = started();
    let older = Preface { protocol: 0, ..Preface::current(false) };
    for bytes in [&b"GET /v1/list HTTP/1.1\r\n\r\n"[..], &[0xff; 16], &[0; 16], &older.to_bytes()] {
        assert_hangs_up_before(&sandbox, dial, bytes, &[], "wrong first bytes");
        assert_serves(&sandbox, "wrong first bytes");
    }
}

#[test]
fn a_silent_connection_is_closed_after_two_seconds() {
    let sandbox = started();
    let mut silent = dial(&sandbox);
    let mut halting = dial(&sandbox);
    halting.write_all(&Preface::current(false).to_bytes()[..7]).unwrap();
    for stream in [&mut silent, &mut halting] {
        hang_up(stream);
    }
    assert_serves(&sandbox, "silence");
}

#[test]
fn half_a_frame_is_waited_for_five_seconds() {
    let sandbox = started();
    let whole = status(1);
    let mut stream = greeted(&sandbox);
    stream.write_all(&whole[..whole.len() / 2]).unwrap();
    let mut idle = greeted(&sandbox);
    assert!(hang_up(&mut stream) > Duration::from_secs(1), "a slow client is given no time");
    assert_serves(&sandbox, "half a frame");
    idle.write_all(&whole).unwrap();
    assert!(answer(&mut idle).message.is_ok(), "who began no frame may wait for as long");
}

#[test]
fn invalid_frames_end_only_their_connection() {
    let sandbox = started();
    let before = memory(&sandbox);
    let too_long = u32::try_from(REQUEST_BYTES_MAX + 1).unwrap().to_be_bytes();
    let garbage = [&16u32.to_be_bytes()[..], &[0x55; 16]].concat();
    let empty = 0u32.to_be_bytes();
    // The variant, then the deadline's seconds as the largest integer.
    let mut absurd = [&[0, 253][..], &[0xff; 8], &status(1)[6..]].concat();
    absurd.splice(..0, u32::try_from(absurd.len()).unwrap().to_be_bytes());
    let hour = SessdRequest::Status { request: StatusRequest {} };
    let hours = frame(1, hour, Duration::from_secs(4_000));
    let four_gigabytes = [0xff; 4];
    let half = &status(1)[..8];
    let cases: [(&str, &[u8]); 6] = [
        ("4 GiB", &four_gigabytes),
        ("more than 1 MiB", &too_long),
        ("garbage", &garbage),
        ("an empty frame", &empty),
        ("an absurd deadline", &absurd),
        ("a deadline of hours", &hours),
    ];
    for (what, bytes) in cases {
        assert_hangs_up_before(&sandbox, greeted, bytes, half, what);
        assert_serves(&sandbox, what);
    }
    assert!(memory(&sandbox) < before + GROWTH_MAX);
}

#[test]
fn idle_connections_give_way_to_new_ones() {
    let sandbox = started();
    let mut idle: Vec<_> = (0..300).map(|_| greeted(&sandbox)).collect();
    assert_serves(&sandbox, "300 idle connections");
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
    let newest = idle.last_mut().unwrap();
    newest.write_all(&status(1)).unwrap();
    assert!(answer(newest).message.is_ok(), "the newest connection was closed");
    hang_up(&mut idle[0]);
}

#[test]
fn a_client_that_never_reads_is_dropped_and_costs_no_memory() {
    let sandbox = started();
    let before = memory(&sandbox);
    let mut stream = greeted(&sandbox);
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let list = |id| {
        let request = ListRequest::default();
        frame(id, SessdRequest::List { request }, Duration::from_secs(5))
    };
    // Blocks once the daemon reads no more, and fails once it hangs up.
    let error = (1..).find_map(|id| stream.write_all(&list(id)).err()).unwrap();
    let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(gone.contains(&error.kind()), "it is not dropped: {error}");
    assert!(memory(&sandbox) < before + GROWTH_MAX, "{} of {before}", memory(&sandbox));
    assert_serves(&sandbox, "a client that never reads");
}

#[test]
fn more_than_32_requests_at_once_are_throttled() {
    let sandbox = Sandbox::new(BINARIES);
    let gate = sandbox.gate();
    assert_eq!(sandbox.sessctl(&["daemon", "start"]).status, 0);
    let turn_id = Uuid::new_v4().to_string();
    let sent = sandbox.client().send(SendRequest {
        turn_id: turn_id.clone(),
        new_agent: Some("echo".to_owned()),
        cwd: sandbox.home().to_str().unwrap().to_owned(),
        prompt: "wait".to_owned(),
        ..SendRequest::default()
    });
    sent.unwrap();
    // Beyond the event that says it started there is nothing to read until the gate opens.
    let request = TurnOutputRequest { turn_id, after: 1_000, wait_ms: 60_000 };
    let mut stream = greeted(&sandbox);
    for id in 1..=40 {
        let message = SessdRequest::TurnOutput { request: request.clone() };
        stream.write_all(&frame(id, message, Duration::from_secs(70))).unwrap();
    }
    let mut throttled: Vec<u64> = (0..8)
        .map(|_| {
            let response = answer(&mut stream);
            let error = response.message.unwrap_err();
            assert_eq!(error.detail, codec::THROTTLED);
            response.request_id
        })
        .collect();
    throttled.sort_unstable();
    assert_eq!(throttled, (33..=40).collect::<Vec<_>>());
    assert_serves(&sandbox, "a throttled connection");
    gate.open(1);
    for _ in 0..32 {
        assert!(answer(&mut stream).message.is_ok());
    }
}
