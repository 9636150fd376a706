//! Keys: callers' own names for sessions, e.g. `@discord:42`. A key means one session until it is
//! moved or dropped; a session may have many.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Session;

/// The longest key, in bytes, with its `@`.
pub const KEY_BYTES_MAX: usize = 200;

/// A key and the session that it means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// `@` and 1 to 199 bytes without white space and control characters; case matters.
    pub key: String,
    /// What it means now, perhaps in the trash.
    pub session: Session,
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeysRequest {
    /// Keys a page, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// One page of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeysResponse {
    /// In the order of their bytes.
    pub keys: Vec<Key>,
    /// Where the next page starts; `null` at the end.
    pub next: Option<String>,
}

/// Which key shall mean which session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// The key.
    pub key: String,
    /// The session.
    pub selector: String,
}

/// Which key shall mean nothing any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DropKeyRequest {
    /// The key.
    pub key: String,
}
