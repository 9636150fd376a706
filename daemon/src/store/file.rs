//! The file itself: making it, opening it, and what tells a damaged one.

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

/// Marks a registry in which damage was met.
const SUSPECT: &str = ".suspect";

/// How much a connection may take.
pub(super) struct Tuning {
    cache_kib: i64,
    /// The log of changes is copied back into the file when it has more pages.
    log_pages: i64,
}

pub(super) const NORMAL: Tuning = Tuning { cache_kib: 2_048, log_pages: 4_000 };
pub(super) const IMPORTING: Tuning = Tuning { cache_kib: 32_768, log_pages: 16_000 };

/// Opens the writing connection of a registry, which is made if there is none; answers as well
/// which indexes are put off until it is filled.
pub(super) fn writer(path: &Path) -> Result<(Connection, DeferredIndexes)> {
    if !path.exists() {
        match fs::metadata(sibling(path, "-wal")) {
            Ok(wal) if wal.len() > 0 => {
                let what = "its file is gone, but not the log of its changes";
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
    // Whoever closes a damaged one must not copy its log of changes back into it.
    connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let missing = configure_and_migrate(&mut connection, path).map_err(|error| match error {
        // What we ask here every registry can do that is what it says it is.
        Error::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            Error::Damaged(error.to_string())
        }
        other => other,
    })?;
    connection.set_db_config(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((connection, missing))
}

/// Looks at the registry before anything is written, and brings it to the present version.
fn configure_and_migrate(connection: &mut Connection, path: &Path) -> Result<DeferredIndexes> {
    prepare(connection)?;
    check(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 8 * 1024 * 1024)?;
    // A step may change any index, so it must be there.
    let missing = build_missing_indexes(connection)?;
    migrations::migrate(connection, path, migrations::ALL)?;
    Ok(missing)
}

/// Makes the indexes that a crash in its first import has left out. Without sessions, that
/// import is still to come.
fn build_missing_indexes(connection: &Connection) -> Result<DeferredIndexes> {
    let missing = DeferredIndexes::of(connection)?;
    if missing.is_any() && sessions::is_any(connection)? {
        missing.build(connection)?;
    }
    Ok(missing)
}

/// Makes a registry, complete before it gets its name: an empty file of that name was never ours
/// to make, but is one that lost its bytes.
fn create(path: &Path) -> Result<()> {
    let partial = sibling(path, ".partial");
    let _ = fs::remove_file(&partial);
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&partial);
    made.map_err(|error| unopenable(path, &error))?;
    let mut connection = Connection::open(&partial)?;
    // What is cut off here is thrown away, so nothing needs a way back.
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
    // It copies the log of changes back and changes nothing else.
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

/// Refuses a file without SQLite's header before SQLite sees it: taking a torn file for an empty
/// registry, it would delete the log of changes beside it.
fn check_header(path: &Path) -> std::io::Result<Result<()>> {
    let mut header = Vec::new();
    fs::File::open(path)?.take(16).read_to_end(&mut header)?;
    let what = match &*header {
        b"SQLite format 3\0" => return Ok(Ok(())),
        [] => "its file is empty",
        _ => "file is not a database",
    };
    Ok(Err(Error::Damaged(what.to_owned())))
}

/// A file that SQLite keeps beside the registry's.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut sibling = path.as_os_str().to_owned();
    sibling.push(suffix);
    sibling.into()
}

/// A look at the whole of a small or suspect registry, at the schema of a large one. Whether
/// every index agrees with its table takes ten times as long, so it is asked of fewer.
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
    // Whether it is well or will be put aside: the doubt is over.
    let _ = fs::remove_file(suspect);
    verdict
}

/// Looks for text that is none, which SQLite does not mind and nobody can read.
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

/// Damage was met in use: the next start looks at the whole registry, however large it is.
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

/// Puts a damaged registry aside, so that nothing overwrites it; answers its new name.
///
/// # Errors
/// When the file cannot be renamed.
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
