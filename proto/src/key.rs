//! Keys: callers' own names for sessions, e.g. `@discord:42`. A key belongs to one session until it
//! is moved or dropped; a session may have many.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Session;

/// Maximum length of a key in bytes, including its `@`.
pub const KEY_BYTES_MAX: usize = 200;

/// A key and its session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// `@` and 1 to 199 bytes without whitespace or control characters; case-sensitive.
    pub key: String,
    /// Its session, which may be in the trash.
    pub session: Session,
}

/// Request of `keys`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeysRequest {
    /// Maximum number of keys, 1 to 500; 0 means 50.
    pub limit: u32,
    /// The `next` of the previous page.
    pub after: Option<String>,
}

/// Response of `keys`: one page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeysResponse {
    /// Sorted by bytes.
    pub keys: Vec<Key>,
    /// Cursor of the next page; `null` if this is the last.
    pub next: Option<String>,
}

/// Request of `bind_key` and `move_key`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// The key.
    pub key: String,
    /// Selector of the session.
    pub selector: String,
}

/// Request of `drop_key`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DropKeyRequest {
    /// The key.
    pub key: String,
}
