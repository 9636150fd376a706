//! The facts that a transcript states about its session, shared by the code that reads transcripts
//! and the code that stores sessions. Not on the wire: [`crate::Session`] has them as flat fields.

use crate::{Kind, Timestamp};

/// The facts of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The provider's own id of the session; empty while it is not known.
    pub provider_session_id: String,
    /// The part of the home in which that id is unique; empty if that is the whole home.
    pub scope: String,
    /// The kind of the session's start.
    pub kind: Kind,
    /// The directory in which the provider must be started to resume it.
    pub launch_dir: String,
    /// The directory in which it last worked.
    pub cwd: Option<String>,
    /// The user's name for it, else the provider's title, else the first prompt; one line of at
    /// most 200 characters.
    pub title: Option<String>,
    /// The last prompt; one line of at most 200 characters.
    pub last_prompt: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// The git branch it last worked on.
    pub git_branch: Option<String>,
    /// The time of the first record.
    pub created_at: Timestamp,
    /// The time of the last record.
    pub last_activity: Timestamp,
}
