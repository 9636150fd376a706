//! What a person changes about sessions: trash, pins, tags, titles. Never a provider's files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Session;

/// Which sessions to change: if one of them cannot be, none is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelectorsRequest {
    /// `@key`, an id, a provider's id, or a unique prefix (at least 4 characters) of one.
    pub selectors: Vec<String>,
}

/// Labels to give to a session or to take from it; they select it in lists and protect it from
/// cleanups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TagRequest {
    /// The session.
    pub selector: String,
    /// 1 to 64 characters each, without white space and control characters.
    pub tags: Vec<String>,
}

/// A title of our own for a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TitleRequest {
    /// The session.
    pub selector: String,
    /// One line of at most 200 characters; `null` means the provider's title again.
    pub title: Option<String>,
}

/// The changed sessions, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeResponse {
    /// In the order of the request.
    pub sessions: Vec<Session>,
}
