//! Errors of the registry's database, and the faults that callers get for them. It must not know
//! which call failed.

use std::fmt;

use rusqlite::ErrorCode;
use sessd_proto::service::DEADLINE_MS;
use sessd_proto::{Fault, FaultCode};

/// An error of the registry's database.
#[derive(Debug)]
pub enum Error {
    /// SQLite reported an error.
    Sqlite(rusqlite::Error),
    /// The schema is newer than this build.
    Newer {
        /// The schema version of the file.
        found: usize,
        /// The newest schema version this build knows.
        known: usize,
    },
    /// The file is damaged.
    Damaged(String),
    /// A fault to be passed on to the caller as it is.
    Fault(Fault),
    /// Anything else.
    Other(String),
}

impl Error {
    /// True if the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error)
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// True if the file itself is damaged, rather than this operation having failed.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            // Tables are STRICT, so a value of the wrong type was not written by us.
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
            Self::Newer { found, known } => write!(
                f,
                "schema version {found} is newer than {known}, the newest this build knows"
            ),
            Self::Damaged(what) | Self::Other(what) => f.write_str(what),
            Self::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let hint = "see `sessctl doctor`; reading still works, and writing resumes by itself";
        match &error {
            Error::Fault(fault) => return fault.clone(),
            Error::Newer { found, known } => {
                let what = format!(
                    "the registry has schema version {found}, this sessd knows up to {known}"
                );
                return Self::new(FaultCode::RegistryNewer, what).hint(
                    "install the newer sessd again, or put back the copy made before the upgrade",
                );
            }
            _ if error.is_damage() => {
                return Self::new(
                    FaultCode::RegistryDamaged,
                    format!("the registry is damaged: {error}"),
                )
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
                    Self::new(FaultCode::Storage, format!("cannot use the registry: {sqlite}"))
                        .hint(hint)
                }
                Some(ErrorCode::OperationInterrupted) => Self::new(
                    FaultCode::Deadline,
                    format!("the registry did not answer within {DEADLINE_MS} ms"),
                )
                .hint("ask for less, or try again in a moment"),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::new(FaultCode::Storage, "another program has locked the registry")
                        .hint("to find it, run `fuser` on the file that `sessctl status` names")
                }
                _ => Self::internal(sqlite),
            },
            other => Self::internal(other),
        }
    }
}
