//! Faults: typed failures with a code for programs, a message and a hint for people.
//!
//! The codes and their exit codes are defined here; messages are written where a failure occurs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::vocabulary::vocabulary;

/// A typed failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// The code, for programs to branch on.
    pub code: FaultCode,
    /// The failure, in lower case, without a full stop.
    pub message: String,
    /// The next step; contains the command to type, if there is one.
    pub hint: Option<String>,
    /// True if the same request may succeed later, false if something has to be changed first,
    /// `null` if unknown.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// The earliest time to try again, if known.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
}

vocabulary! {
    /// The code of a fault.
    pub enum FaultCode {
        /// The request is not valid.
        Usage = "usage",
        /// Nothing matches the selector, key, turn or job.
        NotFound = "not_found",
        /// More than one session or turn matches.
        Ambiguous = "ambiguous",
        /// Another process has the session, or the daemon is busy.
        Busy = "busy",
        /// The session is gone, archived, damaged or in the trash.
        NotResumable = "not_resumable",
        /// The launch directory of the session is gone.
        DirectoryMissing = "directory_missing",
        /// The provider's program is not installed or cannot be started.
        ProviderUnavailable = "provider_unavailable",
        /// The provider ran and failed.
        ProviderFailed = "provider_failed",
        /// It is unknown for now whether the session can be resumed.
        StatusUnknown = "status_unknown",
        /// This provider cannot do what was asked.
        Unsupported = "unsupported",
        /// The call or the turn took longer than allowed.
        Deadline = "deadline",
        /// No daemon responds on the socket, or none can be started.
        DaemonUnreachable = "daemon_unreachable",
        /// Client and daemon speak different protocol versions.
        ProtocolMismatch = "protocol_mismatch",
        /// The configuration file is not valid.
        ConfigInvalid = "config_invalid",
        /// The file of the registry is damaged.
        RegistryDamaged = "registry_damaged",
        /// A newer version of sessd has written the registry.
        RegistryNewer = "registry_newer",
        /// The registry cannot be written, e.g. because the disk is full.
        Storage = "storage",
        /// The environment does not allow it: no home, wrong owner or mode, path too long, disk
        /// not responding.
        Environment = "environment",
        /// Too many requests at once.
        Throttled = "throttled",
        /// A defect in sessd.
        Internal = "internal",
        /// The turn was stopped on request.
        Cancelled = "cancelled",
        /// The daemon or the machine stopped while the turn was running.
        Interrupted = "interrupted",
    }
}

impl FaultCode {
    /// Returns the exit code of a command that fails with this code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unsupported
            | Self::ConfigInvalid
            | Self::RegistryDamaged
            | Self::RegistryNewer
            | Self::Storage
            | Self::Environment
            | Self::Throttled
            | Self::Cancelled => 1,
            Self::Usage => 2,
            Self::NotFound | Self::Ambiguous => 3,
            Self::Busy => 4,
            Self::NotResumable | Self::DirectoryMissing => 5,
            Self::ProviderUnavailable
            | Self::ProviderFailed
            | Self::StatusUnknown
            | Self::Interrupted => 6,
            Self::Deadline => 7,
            Self::DaemonUnreachable => 8,
            Self::ProtocolMismatch => 9,
            Self::Internal => 70,
        }
    }
}

impl FaultCode {
    /// True if failures with this code may pass without a change; `None` if that depends.
    pub(crate) fn may_pass(self) -> Option<bool> {
        match self {
            Self::Busy
            | Self::StatusUnknown
            | Self::Deadline
            | Self::DaemonUnreachable
            | Self::Storage
            | Self::Throttled
            | Self::Interrupted => Some(true),
            // Depends on the provider's message, or on the log.
            Self::ProviderFailed | Self::Internal => None,
            Self::Usage
            | Self::NotFound
            | Self::Ambiguous
            | Self::NotResumable
            | Self::DirectoryMissing
            | Self::ProviderUnavailable
            | Self::Unsupported
            | Self::ProtocolMismatch
            | Self::ConfigInvalid
            | Self::RegistryDamaged
            | Self::RegistryNewer
            | Self::Environment
            | Self::Cancelled => Some(false),
        }
    }
}

impl Fault {
    /// Creates a fault without a hint; `retryable` follows from the code.
    #[must_use]
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        let retryable = code.may_pass();
        Self { code, message: message.into(), hint: None, retryable, retry_at: None }
    }

    /// Returns the fault with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Creates the fault for a defect in sessd.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(FaultCode::Internal, format!("internal error: {cause}"))
            .hint("this is a defect in sessd; see its log: `sessctl daemon logs`")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
