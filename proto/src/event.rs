//! Events: what happened to sessions, and what a provider says during a turn, in one flat shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::vocabulary;
use crate::{Json, Timestamp};

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Position in its stream: increases with every event, with gaps.
    pub seq: i64,
    /// Time at which it was recorded.
    pub at: Timestamp,
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The session it is about; `null` in the output of a turn.
    pub session_id: Option<String>,
    /// The text, for the types that carry one.
    pub text: Option<String>,
    /// Everything else; the fields depend on the type.
    pub data: Json,
}

vocabulary! {
    /// The type of an event. Events of a turn are the output of `turn_output`; the others are the
    /// log of the registry.
    pub enum EventType, default Unrecognized {
        /// The provider has started to work in one of its sessions; it may say so at every step.
        /// Data: `provider_session_id`; where the provider tells them `model`, `tools` and
        /// `mcp_servers`, each server with `name`, `status` and `tools`.
        Started = "started",
        /// A part of the answer, in `text`.
        /// Data: `delta`, true if the text continues the previous `text` event; without it, the
        /// text is a block of its own.
        Text = "text",
        /// A part of the model's reasoning, in `text`.
        /// Data: `delta`, as in `text` events.
        Thinking = "thinking",
        /// The model calls a tool.
        /// Data: `id`, `name`, `input`; `server` where the provider tells the MCP server.
        ToolCall = "tool_call",
        /// The result of a tool call, in `text` if it is text.
        /// Data: `id`; where the provider tells them `is_error`, `status`, `exit_code`, `result`
        /// and `output`.
        ToolResult = "tool_result",
        /// The tokens that were used.
        /// Data: the provider's own fields.
        Usage = "usage",
        /// The provider's limit for this account is reached.
        /// Data: `until`, the time when it ends; `kind`, the provider's name for the limit.
        RateLimit = "rate_limit",
        /// The provider waits before it calls the model again; the cause is in `text`, if it is
        /// told.
        /// Data: `attempt`, `max_attempts`, `delay_ms`, `http_status`; each `null` if unknown.
        Retry = "retry",
        /// The provider reports that the turn is complete; some repeat the answer in `text`.
        /// Data: `cost_usd` or `cost` where the provider tells it; `doubtful`, true if the text
        /// may be the message of a failed call.
        Result = "result",
        /// The provider reports a failed call, in `text`.
        /// Data: `http_status`, `retryable`, `retry_after_ms`; each `null` if unknown.
        Error = "error",
        /// One line of the provider's own output, in `text`; recorded only for `send --raw`.
        Raw = "raw",
        /// A sweep found a session that was not in the registry.
        Discovered = "discovered",
        /// A check or a sweep found another status than the stored one.
        /// Data: `from`, `to`, `reason`.
        StatusChanged = "status_changed",
        /// The provider will soon delete the session.
        /// Data: `expires_at`.
        Expiring = "expiring",
        /// A session that sessctl started got the id that the provider gave it.
        /// Data: `provider_session_id`.
        Bound = "bound",
        /// A session that was gone was started over under the same id (`--fallback new`).
        /// Data: `from` and `to`, the provider's ids; `status`, `reason` and `was_in_trash`, as
        /// they were before.
        Rebound = "rebound",
        /// The process that ran a session has started another one, e.g. with `/clear`; keys and
        /// lease moved to it.
        /// Data: `to`, the id of the new session.
        MovedOn = "moved_on",
        /// Two sessions turned out to be one transcript under two names and became one.
        /// Data: `from`, the id of the other; it stays a selector.
        Merged = "merged",
        /// A session went to the trash.
        /// Data: `reason`.
        Trashed = "trashed",
        /// A session left the trash and is listed again.
        /// Data: `reason`.
        Undeleted = "undeleted",
        /// A session left the registry.
        /// Data: `provider`, `home`, `title`, `provider_session_id`, `location`, as they were.
        Purged = "purged",
        /// A session got a key.
        /// Data: `key`.
        KeyBound = "key_bound",
        /// A session lost a key.
        /// Data: `key`.
        KeyDropped = "key_dropped",
        /// A session was pinned.
        Pinned = "pinned",
        /// A session was unpinned.
        Unpinned = "unpinned",
        /// A session got a tag.
        /// Data: `tag`.
        Tagged = "tagged",
        /// A session lost a tag.
        /// Data: `tag`.
        Untagged = "untagged",
        /// A session got a title from its user, or its provider's title again.
        /// Data: `title`; `null` for the provider's.
        Titled = "titled",
        /// Before a prompt or a resume, a line feed was added to a transcript whose last line was
        /// not ended: the next record would have been glued to it.
        /// Data: `location`; `copy`, the file with the bytes as they were.
        LineEnded = "line_ended",
        /// A file without a message was removed beside a transcript: the provider would have
        /// deleted both.
        /// Data: `location`; `copy`, the file with the bytes as they were.
        StubRemoved = "stub_removed",
        /// A type that this version does not know, stored by another one.
        Unrecognized = "unrecognized",
    }
}

impl EventType {
    /// True for the types that occur in the output of a turn.
    #[must_use]
    pub fn is_of_turn(self) -> bool {
        match self {
            Self::Started
            | Self::Text
            | Self::Thinking
            | Self::ToolCall
            | Self::ToolResult
            | Self::Usage
            | Self::RateLimit
            | Self::Retry
            | Self::Result
            | Self::Error
            | Self::Raw => true,
            Self::Discovered
            | Self::StatusChanged
            | Self::Expiring
            | Self::Bound
            | Self::Rebound
            | Self::MovedOn
            | Self::Merged
            | Self::Trashed
            | Self::Undeleted
            | Self::Purged
            | Self::KeyBound
            | Self::KeyDropped
            | Self::Pinned
            | Self::Unpinned
            | Self::Tagged
            | Self::Untagged
            | Self::Titled
            | Self::LineEnded
            | Self::StubRemoved
            | Self::Unrecognized => false,
        }
    }

    /// Returns the meaning without the data, and the data; the latter is empty if there is none.
    #[must_use]
    pub fn meaning_and_data(self) -> (&'static str, &'static str) {
        self.meaning().split_once(" Data: ").unwrap_or((self.meaning(), ""))
    }

    /// Reads a stored type. Text that is not in the vocabulary is [`Self::Unrecognized`]: a
    /// registry that another version has written must stay readable.
    #[must_use]
    pub fn of_stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_split_from_the_meaning() {
        let (meaning, data) = EventType::StatusChanged.meaning_and_data();
        assert!(meaning.ends_with("than the stored one."), "{meaning}");
        assert_eq!(data, "`from`, `to`, `reason`.");
        assert_eq!(EventType::Pinned.meaning_and_data(), ("A session was pinned.", ""));
    }

    #[test]
    fn a_stored_type_of_another_version_is_readable() {
        assert_eq!(EventType::of_stored("bound"), EventType::Bound);
        assert_eq!(EventType::of_stored("forgotten"), EventType::Unrecognized);
    }
}
