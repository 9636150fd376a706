//! A blocking client: one connection, one typed method for each RPC.
//!
//! It speaks tarpc's frames without an async runtime, because a thin program is mostly start-up
//! time. Prefaces are exchanged with the first request, or by [`Client::greet`]. It never starts
//! a daemon and prints nothing.
//!
//! Sends one prompt to a new session and prints the answer while it arrives:
//!
//! ```no_run
//! use sessd_proto::client::Client;
//! use sessd_proto::paths::Paths;
//! use sessd_proto::EventType;
//! use sessd_proto::turn::{SendRequest, TurnOutputRequest};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let env = sessd_proto::Environment::of_process();
//! let socket = Paths::find(None, &env)?.socket;
//! let mut client = Client::connect(&socket).map_err(sessd_proto::Fault::from)?;
//! let sent = client.send(SendRequest {
//!     // Chosen by the caller, so that repeating the request runs nothing twice.
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
//!         let text = event.text.as_deref().filter(|_| event.kind == EventType::Text);
//!         print!("{}", text.unwrap_or_default());
//!     }
//!     if part.session.is_some() {
//!         break part.turn.fault.map_or(Ok(()), |fault| Err(fault.into()));
//!     }
//! }
//! # }
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tarpc::{ClientMessage, Request, Response, ServerError};

use crate::codec;
use crate::service::{SessdRequest, SessdResponse};
use crate::{Fault, FaultCode};

mod calls;
mod connection;
mod error;

use connection::Connection;
use error::unreachable;
pub use error::{ConnectError, mismatch};

/// How long the daemon may take beyond the deadline before the client gives up.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// How often a request is repeated: several daemons may be stopped one after the other.
const RETRIES: u32 = 3;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    socket: PathBuf,
    last_id: u64,
    /// After a failure a late response could be taken for that to the next call.
    is_dead: bool,
    recover: Option<Recover>,
}

/// Returns another client after connecting has failed.
struct Recover(Box<dyn FnMut(ConnectError) -> Result<Client, Fault> + Send>);

impl fmt::Debug for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recover")
    }
}

/// The error of a call.
enum CallError {
    /// Prefaces were not exchanged, so nothing was done.
    Connect(ConnectError),
    /// The connection broke later.
    HungUp(Fault),
    /// Repeating it would not help.
    Final(Fault),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connect(error) => error.into(),
            CallError::HungUp(fault) | CallError::Final(fault) => fault,
        }
    }
}

impl Client {
    /// Connects and checks who listens. Whether that is a daemon of our protocol is known after
    /// the first call, or after [`Client::greet`]; one of them must follow within 2 s, or the
    /// daemon closes the connection.
    ///
    /// # Errors
    /// Fails if no process listens, or if the socket or its folder belong to another user.
    pub fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let connection = Connection::open(socket)?;
        let socket = socket.to_owned();
        Ok(Self { connection, socket, last_id: 0, is_dead: false, recover: None })
    }

    /// Exchanges prefaces now instead of with the first request.
    ///
    /// # Errors
    /// Fails if the daemon hangs up, does not answer in time, is not sessd or speaks another
    /// protocol.
    pub fn greet(&mut self) -> Result<(), ConnectError> {
        self.connection.greet(&[])
    }

    /// Repeats a request over a new connection when the daemon hangs up, which is safe as every
    /// request is idempotent. `recover` is called when connecting fails.
    #[must_use]
    pub fn recovering(
        self,
        recover: impl FnMut(ConnectError) -> Result<Self, Fault> + Send + 'static,
    ) -> Self {
        Self { recover: Some(Recover(Box::new(recover))), ..self }
    }

    /// Returns the process id of the daemon; of the service manager, if that made the socket.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.connection.peer.pid
    }

    fn call(&mut self, message: SessdRequest, deadline: Duration) -> Result<SessdResponse, Fault> {
        let Some(mut recover) = self.recover.take() else {
            return Ok(self.call_once(message, deadline)?);
        };
        let response = self.call_repeatedly(&message, deadline, &mut recover);
        self.recover = Some(recover);
        response
    }

    fn call_repeatedly(
        &mut self,
        message: &SessdRequest,
        deadline: Duration,
        Recover(recover): &mut Recover,
    ) -> Result<SessdResponse, Fault> {
        let mut hung_up = None;
        for _ in 0..RETRIES {
            let connected = match self.call_once(message.clone(), deadline) {
                Ok(response) => return Ok(response),
                Err(CallError::Final(fault)) => return Err(fault),
                Err(CallError::Connect(error)) => recover(error),
                Err(CallError::HungUp(fault)) => {
                    hung_up = Some(fault);
                    // Greet at once: a daemon that is about to exit still accepts connections.
                    let greeted = Self::connect(&self.socket)
                        .and_then(|mut client| client.greet().map(|()| client));
                    greeted.or_else(&mut *recover)
                }
            };
            // That a daemon hung up in the middle of a call says more than that none is there now.
            *self = connected.map_err(|fault| match hung_up.take() {
                Some(first) if fault.code == FaultCode::DaemonUnreachable => first,
                _ => fault,
            })?;
        }
        Ok(self.call_once(message.clone(), deadline)?)
    }

    fn call_once(
        &mut self,
        message: SessdRequest,
        deadline: Duration,
    ) -> Result<SessdResponse, CallError> {
        if self.is_dead {
            return Err(CallError::HungUp(unreachable(&io::ErrorKind::NotConnected.into())));
        }
        self.last_id += 1;
        let frame = frame(self.last_id, message, deadline).map_err(CallError::Final)?;
        let response = self.exchange(&frame, deadline);
        self.is_dead = response.is_err();
        response?.message.map_err(|error| CallError::Final(refusal(error)))
    }

    fn exchange(
        &mut self,
        mut frame: &[u8],
        deadline: Duration,
    ) -> Result<Response<SessdResponse>, CallError> {
        if !self.connection.is_greeted() {
            self.connection.greet(frame).map_err(CallError::Connect)?;
            frame = &[];
        }
        let body = self.connection.exchange(frame, deadline + DEADLINE_GRACE);
        let response = body.and_then(|body| {
            let response: Response<SessdResponse> = codec::decode(&body)?;
            if response.request_id == self.last_id {
                Ok(response)
            } else {
                let what = "the response belongs to another call";
                Err(io::Error::new(io::ErrorKind::InvalidData, what))
            }
        });
        response.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let what = format!("the daemon did not answer within {deadline:?}");
                CallError::Final(Fault::new(FaultCode::Deadline, what))
            }
            _ => CallError::HungUp(unreachable(&error)),
        })
    }
}

/// Returns the frame of a request: its length, then its body.
fn frame(id: u64, message: SessdRequest, deadline: Duration) -> Result<Vec<u8>, Fault> {
    let mut context = tarpc::context::current();
    context.deadline = Instant::now() + deadline;
    let request = Request { context, id, message };
    let body = codec::encode(&ClientMessage::Request(request)).map_err(Fault::internal)?;
    if body.len() > codec::REQUEST_BYTES_MAX {
        let what = format!("the request has {} bytes, the limit is 1 MiB", body.len());
        return Err(Fault::new(FaultCode::Usage, what));
    }
    let length = u32::try_from(body.len()).map_err(Fault::internal)?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

/// Returns the fault for a request that tarpc refused.
fn refusal(error: ServerError) -> Fault {
    match &*error.detail {
        codec::THROTTLED => Fault::new(FaultCode::Throttled, "too many requests at once")
            .hint("send them one after the other"),
        codec::TOO_LARGE => {
            Fault::new(FaultCode::Usage, error.detail).hint("ask for less: `--limit`")
        }
        _ => Fault::internal(error),
    }
}

#[cfg(test)]
mod tests;
