//! A blocking client: one connection, one typed method for each RPC.
//!
//! It speaks tarpc's frames without an async runtime, because a thin program is mostly start-up
//! time. It never starts a daemon and prints nothing.
//!
//! One prompt in a new session, and its answer while it arrives:
//!
//! ```no_run
//! use sessd_proto::client::Client;
//! use sessd_proto::paths::Paths;
//! use sessd_proto::turn::{SendRequest, TurnOutputRequest};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let env = sessd_proto::Environment::of_process();
//! let socket = Paths::find(None, &env)?.socket;
//! let mut client = Client::connect(&socket).map_err(|error| format!("{error:?}"))?;
//! let sent = client.send(SendRequest {
//!     // Made here: the same request once more runs nothing twice.
//!     turn_id: uuid::Uuid::new_v4().to_string(),
//!     new_agent: Some("echo".to_owned()),
//!     cwd: "/tmp".to_owned(),
//!     prompt: "hello".to_owned(),
//!     ..SendRequest::default()
//! })?;
//! let mut request = TurnOutputRequest { turn_id: sent.turn.id, after: 0, wait_ms: 30_000 };
//! loop {
//!     let part = client.turn_output(request.clone())?;
//!     for event in &part.events {
//!         request.after = event.seq;
//!         print!("{}", event.text.as_deref().filter(|_| event.kind == "text").unwrap_or(""));
//!     }
//!     if part.session.is_some() {
//!         break part.turn.fault.map_or(Ok(()), |fault| Err(fault.into()));
//!     }
//! }
//! # }
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use tarpc::{ClientMessage, Request, Response};
use tokio_util::bytes::{Buf, BytesMut};

use crate::codec::{self, RESPONSE_BYTES_MAX};
use crate::paths;
use crate::peer::Peer;
use crate::preface::{self, Preface};
use crate::service::{DEADLINE_MS, SessdRequest, SessdResponse};
use crate::{Fault, FaultCode, PROTOCOL_VERSION};

mod calls;

/// How long the daemon may take beyond the deadline before we give it up.
const GRACE: Duration = Duration::from_millis(500);

/// How often a request is repeated: somebody may end one daemon after the other.
const REPEATS: u32 = 3;

/// Bytes asked for before the length of an answer is known.
const FIRST_READ: usize = 16 * 1024;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    peer: Peer,
    last_id: u64,
    /// The timeout that the socket has now.
    patience: Duration,
    /// After a failure a late answer could be taken for that to the next call.
    dead: bool,
    again: Option<Again>,
}

/// How to find the daemon again after it has hung up.
struct Again(Box<dyn FnMut() -> Result<Client, Fault> + Send>);

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody listens: the socket is missing or refuses.
    NoDaemon(io::Error),
    /// Somebody listens but must not be talked to, or does not answer.
    Refused(Fault),
    /// A daemon of another protocol.
    Mismatch {
        /// What the daemon said of itself.
        daemon: Preface,
        /// Its process.
        pid: u32,
    },
}

impl Client {
    /// Connects, checks who listens, and exchanges prefaces.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(socket: &Path) -> Result<Self, ConnectError> {
        if let Some(folder) = socket.parent() {
            paths::check_folder(folder).map_err(ConnectError::Refused)?;
        }
        let stream = UnixStream::connect(socket).map_err(ConnectError::NoDaemon)?;
        let peer = Peer::of(&stream).map_err(ConnectError::Refused)?;
        let daemon = greet(&stream).map_err(|error| match error.kind() {
            // A daemon that ends closes what it has accepted, or the listener's backlog.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => ConnectError::NoDaemon(error),
            _ => ConnectError::Refused(unreachable(&error)),
        })?;
        let daemon = daemon.ok_or_else(|| {
            let what = format!("whatever listens on {} is not sessd", socket.display());
            ConnectError::Refused(Fault::new(FaultCode::ProtocolMismatch, what))
        })?;
        if daemon.protocol == PROTOCOL_VERSION {
            let patience = Duration::ZERO;
            Ok(Self { stream, peer, last_id: 0, patience, dead: false, again: None })
        } else {
            Err(ConnectError::Mismatch { daemon, pid: peer.pid })
        }
    }

    /// Repeats a request over a new connection when the daemon hangs up: no request does
    /// anything twice.
    #[must_use]
    pub fn reconnecting(self, again: impl FnMut() -> Result<Self, Fault> + Send + 'static) -> Self {
        Self { again: Some(Again(Box::new(again))), ..self }
    }

    /// The daemon's process.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.peer.pid
    }

    fn call(&mut self, message: SessdRequest, deadline: Duration) -> Result<SessdResponse, Fault> {
        let Some(mut again) = self.again.take() else { return self.call_once(message, deadline) };
        let mut result = self.call_once(message.clone(), deadline);
        for _ in 0..REPEATS {
            if !matches!(&result, Err(fault) if fault.code == FaultCode::DaemonUnreachable) {
                break;
            }
            match again.0() {
                Ok(client) => *self = client,
                Err(_) => break,
            }
            result = self.call_once(message.clone(), deadline);
        }
        self.again = Some(again);
        result
    }

    fn call_once(
        &mut self,
        message: SessdRequest,
        deadline: Duration,
    ) -> Result<SessdResponse, Fault> {
        if self.dead {
            return Err(unreachable(&io::ErrorKind::NotConnected.into()));
        }
        self.last_id += 1;
        let mut context = tarpc::context::current();
        context.deadline = Instant::now() + deadline;
        let request = Request { context, id: self.last_id, message };
        let body = codec::encode(&ClientMessage::Request(request)).map_err(Fault::internal)?;
        if body.len() > codec::REQUEST_BYTES_MAX {
            let what = format!("the request has {} bytes, the limit is 1 MiB", body.len());
            return Err(Fault::new(FaultCode::Usage, what));
        }
        let answer = self.exchange(&body, deadline);
        self.dead = answer.is_err();
        let response = answer.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let what = format!("the daemon did not answer within {deadline:?}");
                Fault::new(FaultCode::Deadline, what)
            }
            _ => unreachable(&error),
        })?;
        response.message.map_err(|error| match &*error.detail {
            codec::THROTTLED => Fault::new(FaultCode::Throttled, "too many requests at once")
                .hint("send them one after the other"),
            codec::TOO_LARGE => {
                Fault::new(FaultCode::Usage, error.detail).hint("ask for less: `--limit`")
            }
            _ => Fault::internal(error),
        })
    }

    fn exchange(&mut self, body: &[u8], deadline: Duration) -> io::Result<Response<SessdResponse>> {
        if self.patience != deadline + GRACE {
            self.patience = deadline + GRACE;
            self.stream.set_read_timeout(Some(self.patience))?;
            self.stream.set_write_timeout(Some(self.patience))?;
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body);
        self.stream.write_all(&frame)?;
        let response: Response<SessdResponse> = codec::decode(&self.answer()?)?;
        if response.request_id != self.last_id {
            let what = "the answer belongs to another call";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(response)
    }

    /// Reads one frame; most fit into the first read, together with their length.
    fn answer(&mut self) -> io::Result<BytesMut> {
        // Pages of it that stay empty cost nothing, and what arrives is copied once.
        let mut answer = BytesMut::zeroed(FIRST_READ);
        let mut filled = 0;
        while filled < 4 {
            match self.stream.read(&mut answer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                // A socket with a deadline is interrupted even by being stopped and continued.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = answer.get_u32() as usize;
        filled -= 4;
        if length > RESPONSE_BYTES_MAX || filled > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no answer"));
        }
        answer.resize(length, 0);
        self.stream.read_exact(&mut answer[filled..])?;
        Ok(answer)
    }
}

fn greet(mut stream: &UnixStream) -> io::Result<Option<Preface>> {
    let patience = Some(Duration::from_millis(DEADLINE_MS));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    stream.write_all(&Preface::current(false).to_bytes())?;
    let mut bytes = [0; preface::LENGTH];
    stream.read_exact(&mut bytes)?;
    Ok(Preface::from_bytes(bytes))
}

fn unreachable(error: &io::Error) -> Fault {
    Fault::new(FaultCode::DaemonUnreachable, format!("the daemon hung up: {error}"))
        .hint("see what it says: `sessctl daemon start`, `sessctl doctor`")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::launch::EnvironmentRequest;
    use crate::status::StatusRequest;

    #[test]
    fn an_answer_to_another_request_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let liar = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&Preface::current(false).to_bytes()).unwrap();
            let answer = SessdResponse::Environment(Ok(Vec::new()));
            let body = codec::encode(&Response { request_id: 7, message: Ok(answer) }).unwrap();
            stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            stream
        });
        let mut client = Client::connect(&socket).unwrap();
        let fault = client.environment(EnvironmentRequest {}).unwrap_err();
        assert_eq!(fault.code, FaultCode::DaemonUnreachable);
        assert!(fault.message.contains("another call"), "{fault}");
        drop(liar.join().unwrap());
    }

    #[test]
    fn a_connection_that_failed_once_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let (done, until_done) = mpsc::channel::<()>();
        let silent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&Preface::current(false).to_bytes()).unwrap();
            let _ = until_done.recv();
        });
        let mut client = Client::connect(&socket).unwrap();
        let mut code = || {
            let request = SessdRequest::Status { request: StatusRequest {} };
            client.call(request, Duration::ZERO).unwrap_err().code
        };
        assert_eq!(code(), FaultCode::Deadline);
        assert_eq!(code(), FaultCode::DaemonUnreachable);
        drop(done);
        silent.join().unwrap();
    }
}
