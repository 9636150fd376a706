//! Creating and opening the database file, and detecting damage. Knows no table but by its name in
//! the schema.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use sessd_proto::{Fault, FaultCode};

use super::indexes::{self, DeferredIndexes};
use super::{Error, Result, migrations, sessions};

/// Suffix of the marker file for a registry in which damage was found.
const SUSPECT: &str = ".suspect";

/// Cache and log sizes of a connection.
pub(super) struct Tuning {
    cache_kib: i64,
    /// The log is checkpointed when it has more pages than this.
    log_pages: i64,
}

pub(super) const NORMAL: Tuning = Tuning { cache_kib: 2_048, log_pages: 4_000 };
pub(super) const IMPORTING: Tuning = Tuning { cache_kib: 32_768, log_pages: 16_000 };

/// Opens the writing connection of a registry, creating the file if there is none. Also returns
/// the indexes that are deferred until the registry is filled.
pub(super) fn writer(path: &Path) -> Result<(Connection, DeferredIndexes)> {
    if !path.exists() {
        match fs::metadata(sibling(path, "-wal")) {
            Ok(wal) if wal.len() > 0 => {
                let what = "its file is gone, but its write-ahead log is still there";
                return Err(Error::Damaged(what.to_owned()));
            }
            _ => create(path)?,
        }
    }
    // SQLite gives -wal and -shm the mode of the file.
    OpenOptions::new()
        .read(true)
        .append(true)
        .open(path)
        .and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)))
        .map_err(|error| unopenable(path, &error))?;
    check_header(path).map_err(|error| unopenable(path, &error))??;
    let mut connection = Connection::open(path)?;
    // Closing a damaged file must not checkpoint its log into it.
    connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let missing = configure_and_migrate(&mut connection, path).map_err(|error| match error {
        // Every intact registry of this version answers these queries, so an SQL error means
        // corruption.
        Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            Error::Damaged(error.to_string())
        }
        other => other,
    })?;
    connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((connection, missing))
}

/// Checks the registry before anything is written, sets up the connection and migrates.
fn configure_and_migrate(connection: &mut Connection, path: &Path) -> Result<DeferredIndexes> {
    prepare(connection)?;
    check(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 8 * 1024 * 1024)?;
    // A migration may change any index, so all of them must exist.
    let missing = build_missing_indexes(connection)?;
    migrations::migrate(connection, path, migrations::ALL)?;
    Ok(missing)
}

/// Builds the indexes that a crash during the first import has left out. Without sessions, that
/// import is still to come, so they stay deferred.
fn build_missing_indexes(connection: &Connection) -> Result<DeferredIndexes> {
    let missing = DeferredIndexes::of(connection)?;
    if missing.is_any() && sessions::is_any(connection)? {
        missing.build(connection)?;
    }
    Ok(missing)
}

/// Creates a registry under a temporary name and renames it once it is complete. An empty file
/// under the final name is therefore always a file that has lost its content.
fn create(path: &Path) -> Result<()> {
    let partial = sibling(path, ".partial");
    let _ = fs::remove_file(&partial);
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&partial);
    made.map_err(|error| unopenable(path, &error))?;
    let mut connection = Connection::open(&partial)?;
    // After a crash the temporary file is deleted, so it needs no journal.
    connection.pragma_update(None, "journal_mode", "OFF")?;
    migrations::make(&mut connection, migrations::VERSION)?;
    indexes::drop_deferred(&connection)?;
    connection.close().map_err(|(_, error)| error)?;
    fs::rename(&partial, path).map_err(|error| unopenable(path, &error))
}

/// Opens the connection for slow reads.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    prepare(&connection)?;
    connection.pragma_update(None, "cache_size", -1024)?;
    // It may still checkpoint the log.
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

pub(super) fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(tune(connection, NORMAL)?)
}

pub(super) fn tune(connection: &Connection, tuning: Tuning) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -tuning.cache_kib)?;
    connection.pragma_update(None, "wal_autocheckpoint", tuning.log_pages)
}

/// Refuses a file without SQLite's header before SQLite opens it: SQLite would take a truncated
/// file for an empty database and delete the log beside it.
fn check_header(path: &Path) -> std::io::Result<Result<()>> {
    let mut header = Vec::new();
    fs::File::open(path)?.take(16).read_to_end(&mut header)?;
    let what = match &*header {
        b"SQLite format 3\0" => return Ok(Ok(())),
        [] => "its file is empty",
        _ => "its file is not a database",
    };
    Ok(Err(Error::Damaged(what.to_owned())))
}

/// Returns the path of a file beside the registry's, with a suffix.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut sibling = path.as_os_str().to_owned();
    sibling.push(suffix);
    sibling.into()
}

/// Checks a small or suspect registry as a whole, and nothing of a large one. `integrity_check`
/// also compares indexes with their tables and takes ten times as long, so its limit is lower.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    let suspect = sibling(path, SUSPECT);
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let check = match (pages, suspect.exists()) {
        (..=1_024, false) | (..=16_384, true) => "PRAGMA integrity_check(1)",
        (..=4_096, false) | (_, true) => "PRAGMA quick_check(1)",
        _ => return Ok(()),
    };
    let verdict: String = connection.query_row(check, [], |row| row.get(0))?;
    let verdict =
        if verdict == "ok" { check_text(connection) } else { Err(Error::Damaged(verdict)) };
    // It is either intact or will be put aside, so the marker is no longer needed.
    let _ = fs::remove_file(suspect);
    verdict
}

/// Looks for text that is not UTF-8, which SQLite accepts and we cannot read.
fn check_text(connection: &Connection) -> Result<()> {
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables = tables.query_map([], |row| row.get::<_, String>(0))?;
    for table in tables {
        let table = table?;
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                if let ValueRef::Text(text) = row.get_ref(column)? {
                    let read = std::str::from_utf8(text);
                    read.map_err(|error| Error::Damaged(format!("text in {table}: {error}")))?;
                }
            }
        }
    }
    Ok(())
}

/// Marks the registry as suspect, after damage was found in use: the next start checks all of it,
/// however large it is.
pub fn mark_suspect(path: &Path) {
    if let Err(error) = fs::write(sibling(path, SUSPECT), "") {
        tracing::error!("cannot mark the registry as suspect: {error}");
    }
}

fn unopenable(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    Error::Fault(
        Fault::new(FaultCode::Storage, format!("cannot write the registry {shown}: {error}"))
            .hint(format!("check its permissions: `ls -la {shown}`")),
    )
}

/// Renames a damaged registry, so that nothing overwrites it; returns its new path.
///
/// # Errors
/// Fails if the file cannot be renamed.
pub fn put_aside(path: &Path, at: i64) -> std::io::Result<PathBuf> {
    let renamed = |suffix: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".damaged-{at}{suffix}"));
        path.with_file_name(name)
    };
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(sibling(path, suffix), renamed(suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(renamed(""))
}
