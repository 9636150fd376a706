//! The built-in provider's transcripts: one JSON record a line.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sessd_proto::Timestamp;

/// One line of a transcript.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) cwd: String,
    pub(super) role: Role,
    pub(super) text: String,
    /// True if a person typed it.
    #[serde(default)]
    pub(super) typed: bool,
}

/// The author of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    User,
    Echo,
}

/// Returns all records of a transcript; none if it does not exist.
pub(super) fn records(path: &Path) -> io::Result<Vec<Record>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
