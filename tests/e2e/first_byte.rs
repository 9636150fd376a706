//! The first byte of a connection decides what is spoken on it, and nothing is written before.

use std::io::{Read, Write};
use std::net::Shutdown;

use serde_json::Value;
use sessd_proto::preface::{LENGTH, Preface};

use crate::limits::{answer, assert_serves, dial, started, status};

fn preface() -> [u8; LENGTH] {
    Preface::current(false).to_bytes()
}

#[test]
fn silent_client_gets_no_byte() {
    let sandbox = started();
    let mut received = Vec::new();
    dial(&sandbox).read_to_end(&mut received).unwrap();
    assert_eq!(received, [0; 0]);
    let mut halting = dial(&sandbox);
    halting.write_all(&preface()[..7]).unwrap();
    let _ = halting.read_to_end(&mut received);
    assert_eq!(received, [0; 0], "after half a preface");
    assert_serves(&sandbox, "silence");
}

#[test]
fn unknown_first_byte_ends_the_connection_without_a_word() {
    let sandbox = started();
    for byte in [b"\xff", b"g", b"\n", b"\x16"] {
        let mut stream = dial(&sandbox);
        stream.write_all(byte).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, [0; 0], "{byte:?}");
    }
}

#[test]
fn http_client_gets_a_501() {
    let sandbox = started();
    let get = "GET /v1/sessions HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n".to_owned();
    // Not all of it is read, but it fits into the socket.
    let large = "x".repeat(100 * 1024);
    let post = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{large}", large.len());
    for request in [get, post] {
        let mut stream = dial(&sandbox);
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
        let length = format!("content-length: {}", body.len());
        for header in ["content-type: text/plain", "connection: close", &length] {
            assert!(head.lines().any(|line| line == header), "no {header} in {head}");
        }
        assert!(body.contains("does not speak HTTP") && body.ends_with('\n'), "{body}");
    }
    assert_serves(&sandbox, "HTTP");
}

#[test]
fn json_rpc_client_gets_an_error_line() {
    let sandbox = started();
    let mut stream = dial(&sandbox);
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    writeln!(stream, "{request}").unwrap();
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    let error: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(error["jsonrpc"], "2.0");
    assert!(error["error"]["message"].as_str().unwrap().contains("JSON-RPC"), "{line}");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
}

#[test]
fn preface_and_request_may_arrive_together_or_byte_by_byte() {
    let sandbox = started();
    let bytes = [&preface()[..], &status(1), &status(2)].concat();
    for size in [bytes.len(), 1, LENGTH, LENGTH + 1] {
        let mut stream = dial(&sandbox);
        for part in bytes.chunks(size) {
            stream.write_all(part).unwrap();
        }
        let mut theirs = [0; LENGTH];
        stream.read_exact(&mut theirs).unwrap();
        assert!(Preface::from_bytes(theirs).is_some(), "in parts of {size}");
        let mut ids = [answer(&mut stream).request_id, answer(&mut stream).request_id];
        ids.sort_unstable();
        assert_eq!(ids, [1, 2], "in parts of {size}");
    }
}

#[test]
fn client_of_another_protocol_gets_our_preface_and_an_end() {
    let sandbox = started();
    let other = Preface { protocol: 99, ..Preface::current(false) };
    let mut stream = dial(&sandbox);
    stream.write_all(&[&other.to_bytes()[..], &status(1)].concat()).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received, preface());
    // A client that hangs up at once does no harm either.
    let mut stream = dial(&sandbox);
    stream.write_all(&other.to_bytes()).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    assert_serves(&sandbox, "another protocol");
}
