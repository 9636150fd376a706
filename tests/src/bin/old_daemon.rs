//! A daemon of an earlier protocol: it holds the lock, sends every client its preface, and ends on
//! SIGTERM. Arguments: the lock's path, the socket's path, `busy` or `idle`.

#![expect(clippy::expect_used, reason = "support of tests: what is wrong must end it at once")]

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process;

use sessd_proto::preface::{LENGTH, Preface, Version};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [lock, socket, state] = &arguments[..] else { process::exit(2) };
    let mut file = File::create(lock).expect("a lock file");
    file.lock().expect("no other holder");
    writeln!(file, "{}\n{socket}", process::id()).expect("room for two lines");
    let listener = UnixListener::bind(socket).expect("a free name");
    let preface = Preface { version: Version(0, 0, 9), busy: state == "busy", protocol: 0 };
    for client in listener.incoming() {
        let mut client = client.expect("a client");
        client.write_all(&preface.to_bytes()).expect("a client that reads");
        // The client may hang up after it has read the preface.
        let _ = client.read(&mut [0; LENGTH]);
    }
}
