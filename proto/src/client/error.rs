//! Errors of connecting to a daemon, and the faults they become.

use std::io;

use crate::preface::{Preface, Version};
use crate::{Fault, FaultCode, PROTOCOL_VERSION};

/// An error of connecting to a daemon.
#[derive(Debug)]
pub enum ConnectError {
    /// No process listens: the socket is missing or refuses, or its daemon is about to exit.
    NoDaemon(io::Error),
    /// A process listens, but must not be talked to or does not answer.
    Refused(Fault),
    /// A daemon of another protocol.
    Mismatch {
        /// The daemon's preface.
        daemon: Preface,
    },
}

impl From<ConnectError> for Fault {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NoDaemon(error) => {
                let what = format!("no daemon listens on the socket: {error}");
                Fault::new(FaultCode::DaemonUnreachable, what)
                    .hint("start it: `sessctl daemon start`")
            }
            ConnectError::Refused(fault) => fault,
            ConnectError::Mismatch { daemon } => mismatch(daemon),
        }
    }
}

/// Returns the fault for a daemon of another protocol. It names both versions, and its hint the
/// side to change.
#[must_use]
pub fn mismatch(daemon: Preface) -> Fault {
    let ours = Version::current();
    let what = format!(
        "the daemon is of version {} (protocol {}), this sessctl of version {ours} (protocol {})",
        daemon.version, daemon.protocol, PROTOCOL_VERSION
    );
    let fault = Fault::new(FaultCode::ProtocolMismatch, what);
    if daemon.protocol > PROTOCOL_VERSION {
        fault.hint("install the sessctl that came with the daemon")
    } else if daemon.busy {
        fault.hint("when its turns have finished: `sessctl daemon restart`")
    } else {
        fault.hint("restart it: `sessctl daemon restart`")
    }
}

/// Returns the fault for a connection that broke.
pub(super) fn unreachable(error: &io::Error) -> Fault {
    Fault::new(FaultCode::DaemonUnreachable, format!("the daemon hung up: {error}"))
        .hint("see what it says: `sessctl daemon start`, `sessctl doctor`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mismatch_names_both_versions_and_the_side_to_change() {
        let other = |protocol| Preface { version: Version(9, 8, 7), busy: true, protocol };
        let newer = mismatch(other(u32::MAX));
        assert!(newer.message.contains("9.8.7") && newer.message.contains("4294967295"));
        assert!(newer.hint.unwrap().contains("sessctl that came with"));
        assert!(mismatch(other(0)).hint.unwrap().contains("turns have finished"));
        let idle = Preface { busy: false, ..other(0) };
        assert_eq!(mismatch(idle).hint.unwrap(), "restart it: `sessctl daemon restart`");
    }
}
