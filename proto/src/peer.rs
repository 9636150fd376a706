//! The process at the other end of a Unix socket, as reported by the kernel. Sends nothing.

use std::os::fd::AsFd;

use crate::{Fault, FaultCode};

/// The process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id, in our namespace.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

impl Peer {
    /// Returns the process at the other end, if it belongs to this user.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if the other end belongs to another user.
    pub fn of(socket: impl AsFd) -> Result<Self, Fault> {
        let credentials = rustix::net::sockopt::socket_peercred(socket).map_err(Fault::internal)?;
        let peer = Self {
            pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            uid: credentials.uid.as_raw(),
        };
        if peer.uid == rustix::process::getuid().as_raw() {
            Ok(peer)
        } else {
            Err(Fault::new(
                FaultCode::Environment,
                format!("the other end of the socket belongs to user {}, not to you", peer.uid),
            )
            .hint("choose another socket with --socket or SESSD_SOCKET"))
        }
    }
}
