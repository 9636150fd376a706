//! What happened, in one flat shape for watchers and for followers of a turn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Json, Timestamp};

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by at least one with every event of its stream.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What: `discovered`, `status_changed`, … or, in a turn, `started`, `text`, `result`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The session it is about.
    pub session_id: Option<String>,
    /// The text of a `text`, `thinking`, `result` or `error` event. A `text` or `thinking` whose
    /// data has `"delta": true` goes on where the one before it has ended.
    pub text: Option<String>,
    /// Everything else.
    pub data: Json,
}
