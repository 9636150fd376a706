//! Reads SQLite databases that belong to others without leaving a trace: no byte, no file and no
//! time stamp changes. Knows no tables and no provider.
//!
//! By default SQLite writes even when it only reads: it creates the index (`-shm`) of a write-ahead
//! log, and it checkpoints the log when the last connection closes. So a database is opened in one
//! of three ways, by the files that exist:
//! - no log: immutable, without any lock. The result counts only if nothing was written at the
//!   same time.
//! - log and index: read-only with the shared index. Readers and writers then lock each other out.
//! - log without index (a crash, a backup): read-only, with the index in our own memory. The result
//!   counts only if nothing was written at the same time.
//!
//! A database of others may be damaged or made to do harm, so reading it is bounded in work and
//! memory: only real tables are read, since a view or a virtual table runs whatever its definition
//! says; a query ends after so many steps; and no value is loaded that is longer than its caller
//! expects ([`up_to`]).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::{Stamp, Unreadable};

/// Attempts to read a database that keeps changing.
const READ_ATTEMPTS: usize = 5;

/// Longest wait for a writer that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Steps of SQLite's virtual machine that one read may take: a second or two. A row of a table
/// takes less than a hundred.
const STEPS_MAX: u32 = 100_000_000;

/// Steps between two looks at the number of them.
const STEPS_AT_ONCE: u32 = 10_000;

/// Longest value that SQLite makes, in bytes, also in a column that is computed.
const VALUE_BYTES_MAX: i32 = 16 << 20;

/// The files of a database at one moment.
#[derive(PartialEq)]
struct Files {
    database: Stamp,
    log: Option<Stamp>,
    has_index: bool,
}

/// Runs a query on some tables of a database and returns its result. It may run several times.
///
/// # Errors
/// [`Unreadable::Missing`] if the database does not exist; [`Unreadable::Denied`] if it cannot be
/// read, one of the tables is none, the query fails or takes too many steps, or the database
/// changed during every attempt.
pub(super) fn read<T>(
    file: &Path,
    tables: &[&str],
    query: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Unreadable> {
    let denied = |error: &dyn std::fmt::Display| {
        Err(Unreadable::Denied(format!("{}: {error}", file.display())))
    };
    for _ in 0..READ_ATTEMPTS {
        let before = Files::look(file)?;
        let connection = before.open(file);
        // If the log was closed or created since, the first query could create a new one.
        if before.log.is_some() != Files::look(file)?.log.is_some() {
            continue;
        }
        let result = connection.map_err(|error| words(&error)).and_then(|connection| {
            must_be_tables(&connection, tables)?;
            query(&connection).map_err(|error| words(&error))
        });
        // Without a lock against writers, a result from the middle of a write must not be used.
        if (result.is_ok() && before.are_locked()) || before == Files::look(file)? {
            return result.or_else(|error| denied(&error));
        }
    }
    denied(&"it kept changing while it was being read")
}

/// Allows so many more steps on a connection; then its query fails.
pub(super) fn allow_steps(connection: &Connection, steps: u32) -> rusqlite::Result<()> {
    let mut left = steps / STEPS_AT_ONCE;
    let is_too_much = move || {
        left = left.saturating_sub(1);
        left == 0
    };
    connection.progress_handler(STEPS_AT_ONCE.cast_signed(), Some(is_too_much))
}

/// Returns the expression for the value of a column, or null if it has more than so many bytes: a
/// longer one is not even loaded.
pub(super) fn up_to(bytes: usize, column: &str) -> String {
    format!("CASE WHEN octet_length({column}) <= {bytes} THEN {column} END")
}

/// True if a query was given up because a value was too long or it took too many steps.
pub(super) fn is_too_much(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::OperationInterrupted | ErrorCode::TooBig))
}

fn words(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => "it takes too much work to read".to_owned(),
        _ => error.to_string(),
    }
}

/// Refuses a view or a virtual table: neither has pages of its own.
fn must_be_tables(connection: &Connection, tables: &[&str]) -> Result<(), String> {
    const NOT_STORED: &str = "SELECT type FROM sqlite_master
        WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view') AND rootpage = 0";
    for table in tables {
        let found = connection.query_row(NOT_STORED, [table], |_| Ok(())).optional();
        if found.map_err(|error| words(&error))?.is_some() {
            return Err(format!("{table} is not a table in it"));
        }
    }
    Ok(())
}

impl Files {
    fn look(file: &Path) -> Result<Self, Unreadable> {
        let beside = |ending: &str| PathBuf::from(format!("{}{ending}", file.display()));
        Ok(Self {
            database: stamp(file)?.ok_or(Unreadable::Missing)?,
            log: stamp(&beside("-wal"))?.filter(|log| log.size > 0),
            has_index: stamp(&beside("-shm"))?.is_some(),
        })
    }

    /// True if readers and writers lock each other out, which they do in the index of the log.
    fn are_locked(&self) -> bool {
        self.log.is_some() && self.has_index
    }

    fn open(&self, file: &Path) -> rusqlite::Result<Connection> {
        let how = if self.log.is_none() {
            "immutable=1"
        } else if self.has_index {
            "mode=ro&readonly_shm=1"
        } else {
            // No process has it open, so the index can be made in our own memory.
            "mode=ro&vfs=unix-none"
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(format!("file:{}?{how}", escaped(file)), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        allow_steps(&connection, STEPS_MAX)?;
        if self.log.is_some() && !self.has_index {
            connection.pragma_update(None, "locking_mode", "exclusive")?;
        }
        Ok(connection)
    }
}

/// Returns the fingerprint of a file; `None` if it does not exist. A dangling link is an error: its
/// target may be on a disk that is not mounted now.
fn stamp(path: &Path) -> Result<Option<Stamp>, Unreadable> {
    let denied = |error| Err(Unreadable::Denied(format!("{}: {error}", path.display())));
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
        Err(error) if error.kind() != ErrorKind::NotFound => denied(error),
        Err(error) if path.is_symlink() => denied(error),
        Err(_) => Ok(None),
    }
}

/// Returns a path as a part of a URI.
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes
        .map(
            |byte| {
                if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "it is 100% #1?.db";

    /// Returns every file of a folder with all that reading could change.
    fn files(folder: &Path) -> Vec<(PathBuf, Stamp, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let look = |path: PathBuf| {
            let stamp = Stamp::of(&path.metadata().unwrap());
            let bytes = fs::read(&path).unwrap();
            (path, stamp, bytes)
        };
        let mut files: Vec<_> = entries.map(look).collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }

    fn writer(folder: &Path) -> Connection {
        let writer = Connection::open(folder.join(NAME)).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1)",
            )
            .unwrap();
        writer
    }

    fn copy_of(folder: &Path, endings: &[&str]) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in endings.iter().map(|ending| format!("{NAME}{ending}")) {
            fs::copy(folder.join(&name), copy.path().join(&name)).unwrap();
        }
        copy
    }

    #[track_caller]
    fn assert_read(folder: &Path, expected: i64) {
        let before = files(folder);
        let count = |c: &Connection| c.query_row("SELECT sum(n) FROM t", (), |row| row.get(0));
        assert_eq!(read(&folder.join(NAME), &["t"], count), Ok(expected));
        assert!(files(folder) == before, "reading left a trace");
    }

    #[test]
    fn reading_leaves_no_trace_and_misses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // Within one process SQLite shares the index between a reader and a writer, so all states
        // but the last are read from copies: as a crash leaves them, and as a backup without index.
        let writer = writer(folder.path());
        assert_read(copy_of(folder.path(), &["", "-wal", "-shm"]).path(), 1);
        writer.execute("INSERT INTO t VALUES (2)", ()).unwrap();
        assert_read(copy_of(folder.path(), &["", "-wal", "-shm"]).path(), 3);
        assert_read(copy_of(folder.path(), &["", "-wal"]).path(), 3);
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
        assert_read(folder.path(), 3);
        drop(writer);
        assert_eq!(files(folder.path()).len(), 1, "the log is closed");
        assert_read(folder.path(), 3);
    }

    #[test]
    fn unreadable_database_is_never_taken_for_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let ask = || {
            read(&path, &["t"], |c| c.query_row("SELECT n FROM t", (), |row| row.get::<_, i64>(0)))
        };
        assert_eq!(ask(), Err(Unreadable::Missing));
        for damage in ["", "this is not a database, although it is long enough"] {
            fs::write(&path, damage).unwrap();
            assert!(matches!(ask(), Err(Unreadable::Denied(_))), "{damage}");
        }
        assert_eq!(files(folder.path()).len(), 1);
    }

    #[test]
    fn database_written_during_a_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        drop(writer(folder.path()));
        let asked = std::cell::Cell::new(0);
        let count = |c: &Connection| {
            let seen = c.query_row("SELECT sum(n) FROM t", (), |row| row.get::<_, i64>(0));
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                let writer = Connection::open(folder.path().join(NAME)).unwrap();
                writer.execute("INSERT INTO t VALUES (2)", ()).unwrap();
            }
            seen
        };
        assert_eq!(read(&folder.path().join(NAME), &["t"], count), Ok(3));
        assert_eq!(asked.get(), 2);
    }

    /// A table of one row.
    fn database(schema: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        (folder, path)
    }

    fn refusal(path: &Path, query: &str) -> String {
        let first = |c: &Connection| c.query_row(query, (), |row| row.get::<_, i64>(0));
        match read(path, &["t"], first) {
            Err(Unreadable::Denied(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn view_is_not_run_and_endless_query_ends() {
        const ENDLESS: &str =
            "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT n FROM r";
        let (_folder, path) = database(&format!("CREATE VIEW T AS {ENDLESS}"));
        let why = refusal(&path, "SELECT count(*) FROM t");
        assert!(why.ends_with("t is not a table in it"), "{why}");
        let (_folder, path) = database("CREATE VIRTUAL TABLE t USING fts5 (n)");
        let why = refusal(&path, "SELECT count(*) FROM t");
        assert!(why.ends_with("t is not a table in it"), "{why}");
        let (_folder, path) = database("CREATE TABLE t (n)");
        let why = refusal(&path, &format!("SELECT count(*) FROM ({ENDLESS})"));
        assert!(why.ends_with("it takes too much work to read"), "{why}");
    }

    #[test]
    fn long_value_is_not_loaded() {
        let length = 2 * VALUE_BYTES_MAX;
        let (_folder, path) = database(&format!(
            "CREATE TABLE t (long, short, made AS (hex(zeroblob({length}))));
             INSERT INTO t VALUES (zeroblob({length}), 7)"
        ));
        let short = |c: &Connection| {
            let query = format!("SELECT {}, short FROM t", up_to(10, "long"));
            c.query_row(&query, (), |row| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?)))
        };
        assert_eq!(read(&path, &["t"], short), Ok((None, 7)));
        for query in ["SELECT length(hex(long)) FROM t", "SELECT length(made) FROM t"] {
            let why = refusal(&path, query);
            assert!(why.ends_with("too big"), "{why}");
        }
    }
}
