//! The databases that Codex keeps beside its rollouts: an index of sessions, their turns, its log.
//! It makes a missing one again, and refuses every session while one of them is damaged. Knows no
//! rollout.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use rusqlite::Connection;

use crate::providers::{Home, file, sqlite};

/// The beginning of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// True if one of the databases of a home is certainly not a database. An empty one is filled.
pub(super) fn is_broken(home: &Home) -> bool {
    databases(home).iter().any(|path| {
        let mut start = Vec::new();
        let read = file::open(path).and_then(|(it, _)| it.take(16).read_to_end(&mut start));
        read.is_ok() && !start.is_empty() && start != MAGIC
    })
}

/// True if the index has a session.
pub(super) fn has(home: &Home, id: &str) -> bool {
    let found = |connection: &Connection| {
        let sql = "SELECT EXISTS (SELECT 1 FROM threads WHERE id = ?1)";
        connection.query_row(sql, [id], |row| row.get(0))
    };
    let is_index = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("state_"))
    };
    let newest = databases(home).iter().filter(is_index).max().cloned();
    newest.is_some_and(|path| sqlite::read(&path, &["threads"], found).unwrap_or(false))
}

fn databases(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    files.filter(|path| path.extension().is_some_and(|it| it == "sqlite")).collect()
}
