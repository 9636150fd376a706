//! The types that providers and their callers exchange: homes, listings, metadata, verdicts.
//! Plain data; knows no provider.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sessd_proto::{Facts, Live, Reason, Status, Timestamp};

use super::Launch;

/// A directory a provider keeps its data in, and the environment that selects it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// Variables to set when the provider is started for this home; `None` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// One transcript as a directory listing shows it; its content has not been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path of the transcript. For a database row: the database's path, `#`, the row's id.
    pub location: String,
    /// Changes whenever the transcript changes.
    pub stamp: Stamp,
}

/// A cheap fingerprint of a file or of a database row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes; for a row, a hash of its columns.
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Inode number; 0 for a row.
    pub inode: u64,
}

impl Stamp {
    /// Returns the fingerprint in a file's metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// Why a home cannot be listed. Nothing may be concluded about its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The store does not exist.
    Missing,
    /// The store exists but cannot be read completely: the path and the error.
    Denied(String),
}

/// The metadata of a session, as read from its transcript.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The facts that the transcript states.
    pub facts: Facts,
    /// The provider's id of the session it was forked from or started by.
    pub parent: Option<String>,
    /// The result of a check, made from the same read.
    pub verdict: Verdict,
    /// The scope that the session had before its provider moved it to another.
    pub earlier_scope: Option<String>,
}

/// The result of a check: status and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: Status,
    /// The reason, when the status is not `active`.
    pub reason: Option<Reason>,
}

impl Verdict {
    /// It can be resumed.
    pub const ACTIVE: Self = Self { status: Status::Active, reason: None };

    /// The transcript does not exist, in a store that could be listed.
    pub const EXPIRED: Self = Self::of(Reason::TranscriptMissing);

    /// The transcript exists but cannot be read.
    pub const UNREADABLE: Self = Self::of(Reason::TranscriptUnreadable);

    /// The transcript has nothing to continue from.
    pub const EMPTY: Self = Self::of(Reason::EmptyTranscript);

    /// A subagent wrote it; the CLI resumes only sessions.
    pub const SUBAGENT: Self = Self::of(Reason::Subagent);

    /// The CLI would not accept the id as one.
    pub const MALFORMED_ID: Self = Self::of(Reason::MalformedId);

    /// Returns the verdict that a reason stands for; the status follows from it.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        Self { status: reason.status(), reason: Some(reason) }
    }

    /// Returns the verdict on a session whose transcript was not found: expired, but only if the
    /// store could be listed.
    #[must_use]
    pub fn of_missing<T>(listing: Result<T, Unreadable>) -> Self {
        listing.map_or_else(Self::from, |_| Self::EXPIRED)
    }
}

impl From<Unreadable> for Verdict {
    fn from(error: Unreadable) -> Self {
        let reason = match error {
            Unreadable::Missing => Reason::HomeMissing,
            Unreadable::Denied(_) => Reason::HomeUnreadable,
        };
        Self::of(reason)
    }
}

/// A session as its provider knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The provider's own id.
    pub provider_session_id: String,
    /// Makes that id unique within the home; may be empty.
    pub scope: String,
    /// Last known location of the transcript; empty before it was found.
    pub location: String,
    /// The directory in which the provider must be started for it.
    pub launch_dir: String,
}

/// A provider's own deletion of old sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The time from which the age is counted.
    pub basis: Basis,
    /// The age at which the provider deletes, in milliseconds.
    pub age_ms: i64,
    /// The time at which it last looked for sessions to delete, where it shows that.
    pub swept_at: Option<Timestamp>,
}

/// The time from which the age of a session is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The modification time of the transcript.
    Modified,
    /// The last activity recorded in the transcript.
    LastActivity,
}

/// A session that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The provider's own id of the session.
    pub provider_session_id: String,
    /// Its scope, where the provider shows it.
    pub scope: Option<String>,
    /// The process and what it is doing.
    pub live: Live,
}

/// A process that was started for a session whose id at the provider is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The process.
    pub pid: u32,
    /// The time at which the process got the session.
    pub since: Timestamp,
    /// The directory in which it was started.
    pub launch_dir: String,
}

/// A turn to plan: which session, where, and how the agent is configured. The prompt itself
/// follows [`super::Turns::prompt`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnSpec {
    /// The session to continue; `None` starts a new one.
    pub resume: Option<Bound>,
    /// The id of the new session, where the provider lets us choose it.
    pub new_id: Option<String>,
    /// The directory to start in.
    pub cwd: String,
    /// The agent's launch profile.
    pub launch: Launch,
}
