//! A client against servers that do what a daemon would not.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::*;
use crate::launch::EnvironmentRequest;
use crate::preface::{LENGTH, Preface};
use crate::status::StatusRequest;

/// A server of one connection, and the socket it listens on.
struct Server<T> {
    folder: tempfile::TempDir,
    served: JoinHandle<T>,
}

impl<T: Send + 'static> Server<T> {
    fn start(serve: impl FnOnce(UnixStream) -> T + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let served = thread::spawn(move || serve(listener.accept().unwrap().0));
        Self { folder, served }
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.path().join("socket")).unwrap()
    }
}

fn status(client: &mut Client, deadline: Duration) -> Result<SessdResponse, Fault> {
    client.call(SessdRequest::Status { request: StatusRequest {} }, deadline)
}

fn response(request_id: u64) -> Vec<u8> {
    let answer = SessdResponse::Environment(Ok(Vec::new()));
    let body = codec::encode(&Response { request_id, message: Ok(answer) }).unwrap();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// Reads a preface and one frame.
fn read_request(stream: &mut UnixStream) {
    let mut head = [0; LENGTH + 4];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[LENGTH..].try_into().unwrap());
    stream.read_exact(&mut vec![0; length as usize]).unwrap();
}

#[test]
fn response_to_another_request_is_refused() {
    let server = Server::start(|mut stream| {
        stream.write_all(&Preface::current(false).to_bytes()).unwrap();
        stream.write_all(&response(7)).unwrap();
        stream
    });
    let fault = server.client().environment(EnvironmentRequest {}).unwrap_err();
    assert_eq!(fault.code, FaultCode::DaemonUnreachable);
    assert!(fault.message.contains("another call"), "{fault}");
    drop(server.served.join().unwrap());
}

#[test]
fn broken_connection_is_not_used_again() {
    let (done, until_done) = mpsc::channel::<()>();
    let server = Server::start(move |mut stream| {
        stream.write_all(&Preface::current(false).to_bytes()).unwrap();
        let _ = until_done.recv();
    });
    let mut client = server.client();
    let mut code = || status(&mut client, Duration::ZERO).unwrap_err().code;
    assert_eq!(code(), FaultCode::Deadline);
    assert_eq!(code(), FaultCode::DaemonUnreachable);
    drop(done);
    server.served.join().unwrap();
}

#[test]
fn preface_and_first_request_are_sent_without_waiting() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        // In one write, as a client may also see them.
        let answer = [&Preface::current(false).to_bytes()[..], &response(1)].concat();
        stream.write_all(&answer).unwrap();
    });
    server.client().environment(EnvironmentRequest {}).unwrap();
    server.served.join().unwrap();
}

#[test]
fn response_that_arrives_byte_by_byte_is_read() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        let answer = [&Preface::current(false).to_bytes()[..], &response(1)].concat();
        answer.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
    });
    server.client().environment(EnvironmentRequest {}).unwrap();
    server.served.join().unwrap();
}

#[test]
fn mismatch_is_reported_though_the_request_was_not_read() {
    let server = Server::start(|mut stream| {
        let other = Preface { protocol: 99, ..Preface::current(false) };
        stream.write_all(&other.to_bytes()).unwrap();
    });
    let mut client = server.client();
    // More than fits into the socket, so that sending fails in the middle.
    let selector = "x".repeat(900_000);
    let request = SessdRequest::Show { request: crate::session::ShowRequest { selector } };
    let fault = client.call(request, Duration::from_secs(5)).unwrap_err();
    assert_eq!(fault.code, FaultCode::ProtocolMismatch);
    assert!(fault.message.contains("(protocol 99)"), "{fault}");
    server.served.join().unwrap();
}

/// The first call may have failed without its caller saying so.
#[test]
fn second_call_after_a_mismatch_names_it_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let other = Preface { protocol: 99, ..Preface::current(true) };
            stream.write_all(&other.to_bytes()).unwrap();
        }
    });
    let mut client = Client::connect(&socket).unwrap().recovering(|error| Err(error.into()));
    for _ in 0..2 {
        let fault = status(&mut client, Duration::from_secs(5)).unwrap_err();
        assert_eq!(fault.code, FaultCode::ProtocolMismatch, "{fault}");
    }
    served.join().unwrap();
}

#[test]
fn failed_greeting_is_recovered_once_and_its_fault_returned() {
    let server = Server::start(drop);
    let mut recovered = 0;
    let mut client = server.client().recovering(move |error| {
        assert!(matches!(error, ConnectError::NoDaemon(_)), "{error:?}");
        recovered += 1;
        Err(Fault::new(FaultCode::Busy, format!("{recovered}")))
    });
    let fault = status(&mut client, Duration::from_secs(5)).unwrap_err();
    assert_eq!((fault.code, &*fault.message), (FaultCode::Busy, "1"));
    server.served.join().unwrap();
}
