//! The columns of `sessions`, by who decides what they hold. Knows no query but the one that
//! makes one row of two.
//!
//! If the provider picks the id, a sweep may find a session before we learn that it is one we
//! registered. The two rows are then merged. The columns of discovery are read again by the next
//! sweep; those that the user has set in the meantime exist nowhere else and must not be lost. A
//! test fails for a column of the schema that is not in this list.

/// The source of the value of a column.
pub(super) enum Source {
    /// Found by discovery: the next sweep reads it again.
    Found,
    /// The user, with the value for the row that is kept (`s`), given the one that is dropped
    /// (`o`).
    User(&'static str),
    /// Ours, or computed. With a value where two rows become one, else that of `s` stays.
    Ours(Option<&'static str>),
}

use Source::{Found, Ours, User};

/// The sum of a column of both rows; NULL only if both are.
macro_rules! sum {
    ($column:literal) => {
        concat!(
            "ifnull(s.",
            $column,
            " + o.",
            $column,
            ", ifnull(s.",
            $column,
            ", o.",
            $column,
            "))"
        )
    };
}

/// Every column of `sessions`.
pub(super) const SESSIONS: &[(&str, Source)] = &[
    ("seq", Ours(None)),
    ("id", Ours(None)),
    ("project_id", Found),
    ("provider", Found),
    ("agent", Ours(Some("iif(s.launch = '[]' AND s.agent = s.provider, o.agent, s.agent)"))),
    ("kind", Found),
    ("launch_dir", Found),
    ("cwd", Found),
    ("title", Found),
    ("model", Found),
    ("git_branch", Found),
    ("status", Found),
    ("reason", Found),
    ("created_at", Found),
    ("last_activity", Found),
    ("checked_at", Found),
    ("expires_at", Found),
    ("expires_key", Ours(None)),
    ("ttl_ms", User("ifnull(s.ttl_ms, o.ttl_ms)")),
    ("pinned", User("max(s.pinned, o.pinned)")),
    ("trashed_at", User("o.trashed_at")),
    ("parent_id", Found),
    ("revision", Ours(Some("s.revision + 1"))),
    ("metadata", User("json_patch(o.metadata, s.metadata)")),
    ("launch", Ours(Some("iif(s.launch = '[]' AND s.agent = s.provider, o.launch, s.launch)"))),
    ("turns", Ours(Some(sum!("turns")))),
    ("tokens_in", Ours(Some(sum!("tokens_in")))),
    ("tokens_out", Ours(Some(sum!("tokens_out")))),
    ("cost_usd", Ours(Some(sum!("cost_usd")))),
    ("own_title", User("ifnull(s.own_title, o.own_title)")),
    ("status_since", Ours(None)),
    ("lost_context", Ours(None)),
    ("last_prompt", Found),
];

/// The assignments that merge row `o` into row `s`.
pub(super) fn merge_assignments() -> String {
    let assignments = SESSIONS.iter().filter_map(|(column, source)| match source {
        User(merged) | Ours(Some(merged)) => Some(format!("{column} = {merged}")),
        Found | Ours(None) => None,
    });
    assignments.collect::<Vec<_>>().join(", ")
}
