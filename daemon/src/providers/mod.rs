//! The agent CLIs we know, one folder each, and the table of them.
//!
//! A provider is split by what a caller needs (`provider.rs`): finding and checking sessions
//! (`Discovery`), command lines for a terminal (`Launcher`), headless turns (`Turns`), copies of
//! sessions (`Forks`). The shared files beside the folders know no provider, and a provider knows
//! no other.
//!
//! A provider performs no I/O beyond reading its own store: it lists, reads, decodes and plans. The
//! registry writes files and the runner starts processes. Of the daemon it needs nothing but
//! `crate::process` and `crate::clock`. Readers are tolerant: unknown records, torn lines and
//! garbage are skipped. Verdicts are strict.

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
pub mod listing;
pub mod locks;
pub mod opencode;
pub mod output;
mod provider;
pub mod qwen;
pub mod record;
mod sqlite;
mod types;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod permissions;

pub use launch::{Accepts, Launch, LaunchFile, McpServer, Permission};
pub use provider::{
    Discovery, Forks, Launcher, LiveReader, PromptVia, Provider, RetentionReader, Turns,
};
pub use types::{
    Basis, Bound, Found, Home, Listed, LiveSession, Retention, Stamp, Start, TurnSpec, Unreadable,
    Verdict,
};

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
