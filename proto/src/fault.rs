//! Every typed failure: a code to branch on, a message and a hint to read, an exit code.
//!
//! Constructors live where the failure is understood; the codes and their exit codes live here.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::session::spelled;

/// A typed failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For people: what happened, one sentence.
    pub message: String,
    /// For people: what to do, with the command to type.
    pub hint: Option<String>,
    /// For programs: true if the same request may work later by itself, false if somebody must
    /// change something first, `null` if that cannot be told.
    #[serde(default)]
    pub retryable: Option<bool>,
    /// For programs: when to try again, where that was said.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The request makes no sense.
    Usage,
    /// Nothing matches.
    NotFound,
    /// More than one session matches.
    Ambiguous,
    /// Somebody else has the session.
    Busy,
    /// The session is gone, put aside or damaged.
    NotResumable,
    /// Its launch directory is gone.
    DirectoryMissing,
    /// The provider's program is not there.
    ProviderUnavailable,
    /// The provider ran and failed.
    ProviderFailed,
    /// Whether it can be resumed cannot be told now.
    StatusUnknown,
    /// Not possible with this provider.
    Unsupported,
    /// It took too long.
    Deadline,
    /// No daemon answers.
    DaemonUnreachable,
    /// Daemon and client are of different versions.
    ProtocolMismatch,
    /// The configuration cannot be used.
    ConfigInvalid,
    /// The registry's file is damaged.
    RegistryDamaged,
    /// The registry was written by a newer version.
    RegistryNewer,
    /// The registry cannot be written, e.g. the disk is full.
    Storage,
    /// A surrounding condition: no home, wrong owner, path too long.
    Environment,
    /// Too many requests at once.
    Throttled,
    /// A defect of ours.
    Internal,
    /// The turn was ended on request.
    Cancelled,
    /// The daemon or the machine went down in the middle of the turn.
    Interrupted,
}

spelled!(FaultCode {
    Usage = "usage",
    NotFound = "not_found",
    Ambiguous = "ambiguous",
    Busy = "busy",
    NotResumable = "not_resumable",
    DirectoryMissing = "directory_missing",
    ProviderUnavailable = "provider_unavailable",
    ProviderFailed = "provider_failed",
    StatusUnknown = "status_unknown",
    Unsupported = "unsupported",
    Deadline = "deadline",
    DaemonUnreachable = "daemon_unreachable",
    ProtocolMismatch = "protocol_mismatch",
    ConfigInvalid = "config_invalid",
    RegistryDamaged = "registry_damaged",
    RegistryNewer = "registry_newer",
    Storage = "storage",
    Environment = "environment",
    Throttled = "throttled",
    Internal = "internal",
    Cancelled = "cancelled",
    Interrupted = "interrupted",
});

impl FaultCode {
    /// The exit code of a command that ends with this fault.
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
    /// Whether failures of this kind pass by themselves.
    fn may_pass(self) -> Option<bool> {
        match self {
            Self::Busy
            | Self::StatusUnknown
            | Self::Deadline
            | Self::DaemonUnreachable
            | Self::Storage
            | Self::Throttled
            | Self::Interrupted => Some(true),
            // What the provider says decides, or what the log does.
            Self::ProviderFailed | Self::Internal => None,
            _ => Some(false),
        }
    }
}

impl Fault {
    /// A fault without a hint.
    #[must_use]
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        let retryable = code.may_pass();
        Self { code, message: message.into(), hint: None, retryable, retry_at: None }
    }

    /// The same fault with a hint: what to do, with the command to type.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A defect of ours; the cause belongs in the log.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(FaultCode::Internal, format!("internal error: {cause}"))
            .hint("this is a defect of sessd; the daemon's log has more: `sessctl doctor`")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
