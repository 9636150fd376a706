//! The types that providers and their callers exchange: homes, listings, metadata, verdicts.
//! Plain data; knows no provider.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sessd_proto::{Facts, Live, Reason, Status, Timestamp};

use super::scan::SCAN_BYTES_MAX;
use super::{Launch, Version};

/// A directory a provider keeps its data in, and the environment that selects it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// Variables to set when the provider is started for this home; `None` means unset.
    pub env: BTreeMap<String, Option<String>>,
}

/// The transcripts of a home, as far as they could be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The transcripts, in no order.
    pub transcripts: Vec<Listed>,
    /// The parts that could not be read. Nothing may be concluded about what they may hold.
    pub gaps: Vec<Gap>,
}

/// A part of a store that cannot be read, e.g. a link that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The file or folder that cannot be read.
    pub path: PathBuf,
    /// The part of the store that it hides: a transcript from below here may be in it.
    pub hides: PathBuf,
    /// The error.
    pub error: String,
}

impl Gap {
    /// Returns the gap that an error at a path makes.
    #[must_use]
    pub fn of(path: PathBuf, error: &io::Error) -> Self {
        Self { hides: path.clone(), path, error: error.to_string() }
    }
}

impl Listing {
    /// True if a transcript that was at this location may be in a part that could not be read.
    #[must_use]
    pub fn hides(&self, location: &str) -> bool {
        Hidden::by(&self.gaps).has(location)
    }
}

/// The parts of a store that are hidden, however many, for many questions.
#[derive(Debug)]
pub struct Hidden<'g>(HashSet<&'g Path>);

impl<'g> Hidden<'g> {
    /// Collects what these gaps hide.
    #[must_use]
    pub fn by(gaps: &'g [Gap]) -> Self {
        Self(gaps.iter().map(|gap| &*gap.hides).collect())
    }

    /// True if a transcript that was at this location may be in one of the parts.
    #[must_use]
    pub fn has(&self, location: &str) -> bool {
        !self.0.is_empty() && Path::new(location).ancestors().any(|part| self.0.contains(part))
    }
}

/// Returns the path of the file at a location: of a database row, that of the database.
#[must_use]
pub fn file_of(location: &str) -> &str {
    location.rsplit_once('#').map_or(location, |(file, _)| file)
}

/// Checks why nothing was found in the file at a location.
///
/// # Errors
/// Fails if it cannot be opened, and if it is too large to be read whole.
pub fn must_be_readable(location: &str) -> io::Result<()> {
    match File::open(file_of(location))?.metadata()?.len() > SCAN_BYTES_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be read")),
        false => Ok(()),
    }
}

/// One transcript as a directory listing shows it; its content has not been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path of the transcript. For a database row: the database's path, `#`, the row's id.
    pub location: String,
    /// Changes whenever the transcript changes.
    pub stamp: Stamp,
    /// The file itself, whatever its name. Only names that are listed together can be compared:
    /// a number is used again after a file is deleted or a disk is mounted.
    pub file: FileId,
}

/// A file on this machine at this moment, by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the file that the metadata is of.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
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

/// Why a home cannot be listed at all. Nothing may be concluded about its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The store does not exist.
    Missing,
    /// The store exists but cannot be read: the path and the error.
    Denied(String),
}

/// The metadata of a session, as read from its transcript.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The facts that the transcript states.
    pub facts: Facts,
    /// The provider's id of the session it was forked from or started by.
    pub parent: Option<String>,
    /// The ids of two sessions, one of them this one: the person that was in the first went on in
    /// the second, a copy.
    pub moved: Option<(String, String)>,
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
    /// The version of the CLI from which on it resumes the session all the same.
    pub lifted_by: Option<Version>,
}

impl Verdict {
    /// It can be resumed.
    pub const ACTIVE: Self = Self { status: Status::Active, reason: None, lifted_by: None };

    /// The transcript does not exist, in a store that could be listed.
    pub const EXPIRED: Self = Self::of(Reason::TranscriptMissing);

    /// The part of the store that would hold the transcript cannot be read.
    pub const HIDDEN: Self = Self::of(Reason::PartUnreadable);

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
        Self { status: reason.status(), reason: Some(reason), lifted_by: None }
    }

    /// Returns this verdict for a program of this version, or of an unknown one; `tested` is the
    /// newest version that was tried. A refusal that a later version has lifted is certain only for
    /// the versions that were tried: for all others the session is `unknown`.
    #[must_use]
    pub fn for_program(self, version: Option<Version>, tested: Option<Version>) -> Self {
        let Some(lifted_by) = self.lifted_by else { return self };
        match version {
            Some(version) if version < lifted_by => Self { lifted_by: None, ..self },
            Some(version) if tested.is_none_or(|tested| version <= tested) => Self::ACTIVE,
            _ => Self::of(Reason::DependsOnVersion),
        }
    }

    /// Returns the verdict on a session whose transcript is not in the listing: expired, but only
    /// if the part of the store that would hold it could be listed.
    #[must_use]
    pub fn of_missing(listing: Result<Listing, Unreadable>, location: &str) -> Self {
        match listing {
            Ok(listing) if listing.hides(location) => Self::HIDDEN,
            Ok(_) => Self::EXPIRED,
            Err(error) => error.into(),
        }
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
    /// That directory with its links resolved. Set for plans only, since the disk may not answer.
    pub real_dir: Option<String>,
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

/// A session that runs in the background: arguments of its CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    /// Opens it in this terminal.
    pub attach: Vec<String>,
    /// Ends it; the conversation is kept.
    pub stop: Vec<String>,
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
