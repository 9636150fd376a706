//! The agent CLIs that we know, one folder each, and the table of them.
//!
//! A provider is split by what a caller needs (`provider.rs`): finding and checking sessions
//! (`Discovery`), command lines for a terminal (`Launcher`), headless turns (`Turns`), copies of
//! sessions (`Forks`). The shared files beside the folders know no provider, and a provider knows
//! no other.
//!
//! Design notes:
//!
//! - A provider reads its own store and does no other I/O: it lists, reads, decodes and plans. The
//!   registry writes files and the runner starts processes. A launch is plain data, so a caller can
//!   run it in its own terminal, and a test can compare it. Of the daemon a provider needs nothing
//!   but `crate::process` and `crate::clock`.
//! - A capability is a facet that exists. A table of flags beside the code was rejected: it is a
//!   second truth, and it drifts.
//! - Providers are code and not configuration. Descriptions in files cannot express the traps of
//!   the real CLIs (patch logs, lineages, two names for one chat); plug-ins would need a stable
//!   interface for rules that change with every release of a CLI.
//! - The CLIs are not asked for their sessions. Their own lists start servers, write into the home,
//!   are bound to one directory, or need an account; a read of the store does none of that. So a
//!   check is free: no model call, and no byte written.
//! - Readers are tolerant, since formats change without notice: unknown records, torn lines and
//!   garbage are skipped. Verdicts are strict: a session is gone only if the part of the store
//!   that would hold it could be listed, and does not have it.

pub mod claude;
pub mod codex;
pub mod cursor;
pub mod echo;
mod environment;
pub mod failure;
mod file;
pub mod gemini;
pub mod head_tail;
mod home;
pub mod jsonc;
mod jsonl;
pub mod launch;
mod lenient;
pub mod listing;
pub mod locks;
mod munged;
pub mod opencode;
pub mod output;
pub mod pid_file;
mod provider;
pub mod qwen;
pub mod record;
pub mod scan;
mod shorten;
mod sqlite;
mod title;
mod types;
pub mod unknown;
pub mod version;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod permissions;

pub use launch::{Accepts, Launch, LaunchFile, McpServer, Permission};
pub use provider::{
    Discovery, Forks, Launcher, LiveReader, PromptVia, Provider, Reader, RetentionReader,
    StubReader, TranscriptFinder, Turns,
};
pub use types::{
    Background, Basis, Bound, FileId, Found, Gap, Hidden, Home, Listed, Listing, LiveSession,
    Retention, Stamp, Start, TurnSpec, Unreadable, Verdict, file_of, must_be_readable,
};
pub use version::Version;

/// Every provider, in the order shown to people.
pub static ALL: &[&dyn Provider] = &[
    &claude::Claude,
    &codex::Codex,
    &gemini::Gemini,
    &opencode::OPENCODE,
    &opencode::KILO,
    &qwen::Qwen,
    &cursor::Cursor,
    &echo::Echo,
];

/// Returns the provider with this id.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static dyn Provider> {
    ALL.iter().copied().find(|provider| provider.id() == id)
}
