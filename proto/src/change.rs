//! Changes that users make to sessions: trash, pins, tags, titles. None touches a provider's files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Session;

/// Request of `delete`, `undelete`, `pin` and `unpin`. If one session cannot be changed, none is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelectorsRequest {
    /// Keys (`@name`), ids, providers' ids, or unique prefixes of ids (at least 4 characters).
    pub selectors: Vec<String>,
}

/// Request of `tag` and `untag`. Tags filter lists and protect sessions from cleanups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TagRequest {
    /// Selector of the session.
    pub selector: String,
    /// Tags of 1 to 64 characters each, without whitespace or control characters.
    pub tags: Vec<String>,
}

/// Request of `title`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TitleRequest {
    /// Selector of the session.
    pub selector: String,
    /// One line of 1 to 200 characters; `null` restores the provider's title.
    pub title: Option<String>,
}

/// Response of every change: the sessions after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeResponse {
    /// In the order of the request.
    pub sessions: Vec<Session>,
}
