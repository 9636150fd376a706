//! One connection to the daemon: prefaces, then frames. Knows no RPC.
//!
//! Our preface travels together with the first request, so a new connection costs one round
//! trip. What comes back begins with the daemon's preface. It is read even if sending failed: a
//! daemon of another protocol hangs up without reading the request.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio_util::bytes::{Buf, BytesMut};

use super::error::{ConnectError, unreachable};
use crate::codec::RESPONSE_BYTES_MAX;
use crate::paths;
use crate::peer::Peer;
use crate::preface::{self, Preface};
use crate::service::DEADLINE_MS;
use crate::{Fault, FaultCode, PROTOCOL_VERSION};

/// How long the daemon may take to send its preface.
const PREFACE_TIMEOUT: Duration = Duration::from_millis(DEADLINE_MS);

/// Bytes requested before the length of a response is known.
const FIRST_READ: usize = 16 * 1024;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// The process that listens.
    pub(super) peer: Peer,
    /// True once the daemon's preface has been read.
    is_greeted: bool,
    /// The timeout that is set on the socket.
    timeout: Duration,
}

impl Connection {
    /// Connects and checks who listens. Sends nothing.
    pub(super) fn open(socket: &Path) -> Result<Self, ConnectError> {
        if let Some(folder) = socket.parent() {
            paths::check_folder(folder).map_err(ConnectError::Refused)?;
        }
        let stream = UnixStream::connect(socket).map_err(ConnectError::NoDaemon)?;
        let peer = Peer::of(&stream).map_err(ConnectError::Refused)?;
        Ok(Self { stream, peer, is_greeted: false, timeout: Duration::ZERO })
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Exchanges prefaces, unless that is done, and sends `first` together with ours.
    ///
    /// # Errors
    /// Fails if the daemon hangs up, does not answer in time, is not sessd or speaks another
    /// protocol.
    pub(super) fn greet(&mut self, first: &[u8]) -> Result<(), ConnectError> {
        if self.is_greeted {
            return Ok(());
        }
        let daemon = self.exchange_prefaces(first).map_err(|error| match error.kind() {
            // A daemon that ends closes what it has accepted, or the listener's backlog.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => ConnectError::NoDaemon(error),
            _ => ConnectError::Refused(unreachable(&error)),
        })?;
        let Some(daemon) = daemon else {
            let what = "the program that listens on the socket is not sessd";
            return Err(ConnectError::Refused(Fault::new(FaultCode::ProtocolMismatch, what)));
        };
        if daemon.protocol != PROTOCOL_VERSION {
            return Err(ConnectError::Mismatch { daemon });
        }
        self.is_greeted = true;
        Ok(())
    }

    fn exchange_prefaces(&mut self, first: &[u8]) -> io::Result<Option<Preface>> {
        self.set_timeout(PREFACE_TIMEOUT)?;
        let ours = Preface::current(false).to_bytes();
        let sent = self.stream.write_all(&[&ours[..], first].concat());
        if let Err(error) = &sent
            && !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return sent.map(|()| None);
        }
        let mut bytes = [0; preface::LENGTH];
        self.stream.read_exact(&mut bytes)?;
        let daemon = Preface::from_bytes(bytes);
        match daemon {
            Some(Preface { protocol: PROTOCOL_VERSION, .. }) => sent.map(|()| daemon),
            // It did not read the request, so that sending failed is not the reason.
            _ => Ok(daemon),
        }
    }

    /// Sends a frame, or nothing if it went with the preface, and returns the body of the next
    /// frame that arrives.
    pub(super) fn exchange(&mut self, frame: &[u8], timeout: Duration) -> io::Result<BytesMut> {
        self.set_timeout(timeout)?;
        self.stream.write_all(frame)?;
        self.read_frame()
    }

    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        if self.timeout != timeout {
            self.timeout = timeout;
            self.stream.set_read_timeout(Some(timeout))?;
            self.stream.set_write_timeout(Some(timeout))?;
        }
        Ok(())
    }

    /// Reads one frame; most fit into the first read, together with their length.
    fn read_frame(&mut self) -> io::Result<BytesMut> {
        // Untouched pages of the buffer cost nothing, and the bytes are copied once.
        let mut frame = BytesMut::zeroed(FIRST_READ);
        let mut filled = 0;
        while filled < 4 {
            match self.stream.read(&mut frame[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                // A read with a timeout is interrupted even by SIGSTOP and SIGCONT.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let length = frame.get_u32() as usize;
        filled -= 4;
        if length > RESPONSE_BYTES_MAX || filled > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "invalid response frame"));
        }
        frame.resize(length, 0);
        self.stream.read_exact(&mut frame[filled..])?;
        Ok(frame)
    }
}
