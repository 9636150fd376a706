//! Reasons: why a session has its status, and why one went to the trash or came back. Knows no
//! provider.

use crate::Status;
use crate::vocabulary::vocabulary;

vocabulary! {
    /// The reason for a session's status. Each belongs to one status; a session that is `active`
    /// has one only if it is in danger.
    pub enum Reason, default Unrecognized {
        /// The provider's store could be listed and no longer holds the transcript.
        TranscriptMissing = "transcript_missing",
        /// The session is past the time to live that its user set with `--ttl`.
        Ttl = "ttl",
        /// The provider itself has archived the session.
        ArchivedByProvider = "archived_by_provider",
        /// The transcript has no message that the provider could continue from.
        EmptyTranscript = "empty_transcript",
        /// The transcript belongs to a subagent, which its provider does not resume.
        Subagent = "subagent",
        /// The id does not have the form that the provider requires.
        MalformedId = "malformed_id",
        /// The first record of the transcript cannot be read.
        FirstRecordBroken = "first_record_broken",
        /// The transcript lacks the header that the provider needs.
        HeaderMissing = "header_missing",
        /// The transcript lacks the record that describes the session.
        SessionMetaMissing = "session_meta_missing",
        /// The transcript is in the folder of another directory than the one it names.
        OtherDirectory = "other_directory",
        /// The session was forked from one whose transcript is gone.
        LineageMissing = "lineage_missing",
        /// The session was forked from one whose transcript is damaged or shorter than it was.
        LineageBroken = "lineage_broken",
        /// The settings no longer have the service that the session was made with.
        ModelProviderMissing = "model_provider_missing",
        /// A record of the transcript is damaged in a way for which the provider refuses the whole.
        RecordBroken = "record_broken",
        /// The records of the transcript are of another session than its file's name says.
        OtherSession = "other_session",
        /// The provider follows the transcript's link, and refuses the name that it leads to.
        LinkRefused = "link_refused",
        /// A database that the provider keeps beside its transcripts is damaged. Moved away, it is
        /// made again.
        IndexBroken = "index_broken",
        /// The provider has started another conversation under the same id.
        BegunAnew = "begun_anew",
        /// The launch directory does not exist.
        DirectoryMissing = "directory_missing",
        /// The session is registered and was never started, or its provider has not written yet.
        Starting = "starting",
        /// The provider's home does not exist, e.g. because a disk is not mounted.
        HomeMissing = "home_missing",
        /// The provider's home cannot be read, or its disk does not respond.
        HomeUnreadable = "home_unreadable",
        /// The part of the provider's store that would hold the transcript cannot be read, e.g.
        /// because a link leads nowhere.
        PartUnreadable = "part_unreadable",
        /// Too many sessions of the home disappeared at once, so none is believed to be gone.
        HomeHeld = "home_held",
        /// The transcript exists but cannot be read.
        TranscriptUnreadable = "transcript_unreadable",
        /// The disk of the launch directory does not respond.
        DirectoryUnreadable = "directory_unreadable",
        /// Some versions of the provider's program resume the session and others do not; the
        /// installed one is newer than those that were tested, or its version is not known.
        DependsOnVersion = "depends_on_version",
        /// The transcript does not name its directory, as an old version of the provider wrote it,
        /// and no known directory is the one. Started once in that directory, the provider names
        /// it.
        DirectoryUnknown = "directory_unknown",
        /// The provider deletes the transcript at its next start in this directory, because of a
        /// damaged or empty file beside it whose name ends alike. A prompt or a resume by sessctl
        /// removes that file if it belongs to the same session.
        DeletedAtNextStart = "deleted_at_next_start",
        /// The transcript, or the database that it is in, has the format of a newer version of the
        /// provider than sessd knows.
        NewerFormat = "newer_format",
        /// A reason that this version does not know, stored by another one.
        Unrecognized = "unrecognized",
    }
}

impl Reason {
    /// Returns the status that a session with this reason has; `unknown` for an unrecognized one.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::DeletedAtNextStart => Status::Active,
            Self::TranscriptMissing | Self::Ttl => Status::Expired,
            Self::ArchivedByProvider => Status::Archived,
            Self::EmptyTranscript
            | Self::Subagent
            | Self::MalformedId
            | Self::FirstRecordBroken
            | Self::HeaderMissing
            | Self::SessionMetaMissing
            | Self::OtherDirectory
            | Self::LineageMissing
            | Self::LineageBroken
            | Self::ModelProviderMissing
            | Self::RecordBroken
            | Self::OtherSession
            | Self::LinkRefused
            | Self::IndexBroken
            | Self::BegunAnew
            | Self::DirectoryMissing => Status::Invalid,
            Self::Starting
            | Self::HomeMissing
            | Self::HomeUnreadable
            | Self::PartUnreadable
            | Self::HomeHeld
            | Self::TranscriptUnreadable
            | Self::DirectoryUnreadable
            | Self::DependsOnVersion
            | Self::DirectoryUnknown
            | Self::NewerFormat
            | Self::Unrecognized => Status::Unknown,
        }
    }

    /// Reads a stored reason. Text that is not in the vocabulary is [`Self::Unrecognized`]: a
    /// registry that another version has written must stay readable.
    #[must_use]
    pub fn of_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }
}

vocabulary! {
    /// The reason for a step of a cleanup, and for a `trashed` or `undeleted` event.
    pub enum TrashReason, default Deleted {
        /// The user deleted the session.
        Deleted = "deleted",
        /// The user took the session out of the trash.
        Undeleted = "undeleted",
        /// The session was used again at its provider, so it left the trash.
        Activity = "activity",
        /// The session is past its time to live.
        Ttl = "ttl",
        /// The session has been gone at its provider for `cleanup.grace_days`.
        Gone = "gone",
        /// The session was registered and not started for `cleanup.grace_days`.
        NeverStarted = "never_started",
        /// The session has been in the trash for `cleanup.trash_days`.
        TrashDays = "trash_days",
        /// The transcripts of purged sessions are gone too.
        TranscriptsGone = "transcripts_gone",
        /// More events or turns are stored than `[retention]` keeps.
        Retention = "retention",
    }
}
