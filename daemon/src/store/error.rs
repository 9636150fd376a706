//! What goes wrong in the registry's file, and what callers are told of it.

use std::fmt;

use rusqlite::ErrorCode;
use sessd_proto::service::DEADLINE_MS;
use sessd_proto::{Fault, FaultCode};

/// What goes wrong in the registry's file.
#[derive(Debug)]
pub enum Error {
    /// SQLite's own failure.
    Sqlite(rusqlite::Error),
    /// The file is of a later version.
    Newer {
        /// The version of the file.
        found: usize,
        /// The last version this build knows.
        known: usize,
    },
    /// The file is not what it should be.
    Damaged(String),
    /// A failure that is already worded for the caller.
    Fault(Fault),
    /// Anything else.
    Other(String),
}

impl Error {
    /// True if there is no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error)
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// True if the file itself is broken, not just this use of it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            // Every column has its type, so what it holds was changed by somebody else.
            Self::Sqlite(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..),
            ) => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(f, "{error}"),
            Self::Newer { found, known } => write!(f, "schema {found}, this build knows {known}"),
            Self::Damaged(what) | Self::Other(what) => f.write_str(what),
            Self::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let hint = "see `sessctl doctor`; reading goes on, and writing by itself once it can";
        match &error {
            Error::Fault(fault) => return fault.clone(),
            Error::Newer { found, known } => {
                let what = format!(
                    "the registry is of version {found}, this sessd knows versions up to {known}"
                );
                return Self::new(FaultCode::RegistryNewer, what)
                    .hint("install the newer sessd again, or put the copy made before back");
            }
            _ if error.is_damage() => {
                return Self::new(FaultCode::RegistryDamaged, format!("the registry: {error}"))
                    .hint("restart the daemon: `sessctl daemon restart`");
            }
            _ => {}
        }
        match error {
            Error::Sqlite(sqlite) => match sqlite.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => {
                    Self::new(FaultCode::Storage, "the disk with the registry is full").hint(hint)
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
                    Self::new(FaultCode::Storage, format!("the registry: {sqlite}")).hint(hint)
                }
                Some(ErrorCode::OperationInterrupted) => Self::new(
                    FaultCode::Deadline,
                    format!("the registry did not answer within {DEADLINE_MS} ms"),
                )
                .hint("ask for less, or again in a moment"),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::new(FaultCode::Storage, "another program has locked the registry")
                        .hint("who: `fuser` on the file that `sessctl status` names")
                }
                _ => Self::internal(sqlite),
            },
            other => Self::internal(other),
        }
    }
}
