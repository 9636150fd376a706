//! The migrations of the registry's schema. Append-only: a released step is never edited. It must
//! not use the queries beside it, which know the newest schema only.
//!
//! `schema.sql` beside this file is their result, used for new registries and for reading; a test
//! compares the two. All missing steps run in one transaction, after a copy of the file was made.
//! There are no down migrations: to go back, put the copy back.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::{Error, Result};
use crate::failpoint;

/// Every step, oldest first; its position plus one is the schema's version.
pub(super) const ALL: &[M<'static>] = &[
    M::up(include_str!("migrations/1_first.sql")),
    M::up(include_str!("migrations/2_trash.sql")),
    M::up(include_str!("migrations/3_turns.sql")),
    M::up(include_str!("migrations/4_titles.sql")),
    M::up(include_str!("migrations/5_names.sql")),
];

/// The version that the last step makes.
pub(super) const VERSION: u32 = ALL.len() as u32;

/// The result of all steps, which runs in a quarter of their time.
const RESULT: &str = include_str!("schema.sql");

/// Creates the schema of a version in an empty database.
pub(super) fn make(connection: &mut Connection, version: u32) -> Result<()> {
    if version < VERSION {
        return apply(&ALL[..version as usize], connection);
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(RESULT)?;
    transaction.pragma_update(None, "user_version", version)?;
    Ok(transaction.commit()?)
}

/// Runs the missing steps; returns the path of the copy made before, if any.
///
/// # Errors
/// [`Error::Newer`] if the registry has a later version. Fails if the copy cannot be made or a step
/// fails; then the schema is unchanged.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    steps: &[M<'static>],
) -> Result<Option<PathBuf>> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > steps.len() {
        return Err(Error::Newer { found, known: steps.len() });
    }
    let copy = (0 < found && found < steps.len()).then(|| copy_path(path, found));
    if let Some(copy) = &copy {
        copy_of(connection, copy)?;
    }
    failpoint::reach("migrate.copied");
    apply(steps, connection)?;
    failpoint::reach("migrate.migrated");
    Ok(copy)
}

/// Runs the steps that the database has not run yet.
fn apply(steps: &[M<'static>], connection: &mut Connection) -> Result<()> {
    Migrations::from_slice(steps).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => Error::Sqlite(err),
        other => Error::Other(other.to_string()),
    })
}

/// Returns the path for the copy of a registry of an older version.
fn copy_path(path: &Path, version: usize) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".v{version}"));
    path.with_file_name(name)
}

/// Makes a consistent copy, which is complete before it gets its name.
fn copy_of(connection: &Connection, copy: &Path) -> Result<()> {
    let partial = copy.with_extension("partial");
    let unlink = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Other(format!("cannot replace {}: {error}", path.display())))
        }
        _ => Ok(()),
    };
    unlink(&partial)?;
    connection.execute("VACUUM INTO ?1", [partial.to_string_lossy()])?;
    failpoint::reach("migrate.copying");
    std::fs::rename(&partial, copy)
        .map_err(|error| Error::Other(format!("cannot write {}: {error}", copy.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: M<'static> = M::up("ALTER TABLE projects ADD COLUMN note TEXT;");
    const BROKEN: M<'static> = M::up("ALTER TABLE projects ADD COLUMN more TEXT; nonsense;");

    fn open(path: &Path, steps: &[M<'static>]) -> (Connection, Result<Option<PathBuf>>) {
        let mut connection = Connection::open(path).unwrap();
        let migrated = migrate(&mut connection, path, steps);
        (connection, migrated)
    }

    fn roots(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM projects", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_from_before_a_step_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessd.db");
        let (connection, first) = open(&path, ALL);
        assert_eq!(first.unwrap(), None, "a new registry needs no copy");
        connection.execute("INSERT INTO projects (root) VALUES ('/w')", []).unwrap();
        drop(connection);

        let newer: Vec<_> = ALL.iter().cloned().chain([NEXT]).collect();
        let (connection, migrated) = open(&path, &newer);
        let copy = migrated.unwrap().expect("a copy");
        connection.execute("UPDATE projects SET note = 'x'", []).unwrap();
        drop(connection);

        std::fs::rename(&copy, &path).unwrap();
        let (connection, back) = open(&path, ALL);
        assert_eq!(back.unwrap(), None);
        assert_eq!(roots(&connection), 1);
    }

    #[test]
    fn a_failing_step_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessd.db");
        open(&path, ALL).1.unwrap();
        let broken: Vec<_> = ALL.iter().cloned().chain([NEXT, BROKEN]).collect();
        open(&path, &broken).1.unwrap_err();
        let (connection, again) = open(&path, ALL);
        again.expect("still the old version");
        assert!(connection.prepare("SELECT note FROM projects").is_err());
    }

    #[test]
    fn a_newer_registry_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessd.db");
        let newer: Vec<_> = ALL.iter().cloned().chain([NEXT]).collect();
        open(&path, &newer).1.unwrap();
        let refused = open(&path, ALL).1.unwrap_err();
        let Error::Newer { found, known } = refused else { panic!("{refused:?}") };
        assert_eq!((found, known), (ALL.len() + 1, ALL.len()));
    }

    /// Returns the schema as SQL.
    fn schema(connection: &Connection) -> String {
        let mut statement = connection
            .prepare(
                "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
                 ORDER BY tbl_name, type = 'trigger', type = 'index', name",
            )
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|sql| format!("\n{};\n", sql.unwrap())).collect()
    }

    #[test]
    fn schema_sql_is_the_result_of_all_steps() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(ALL, &mut connection).unwrap();
        let header = "-- Generated by `UPDATE=1 cargo test`; edit migrations.rs.\n";
        let text = header.to_owned() + &schema(&connection);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/schema.sql");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 cargo test");
    }

    #[test]
    fn a_new_registry_equals_a_migrated_one() {
        let [mut new, mut old] = [(); 2].map(|()| Connection::open_in_memory().unwrap());
        make(&mut new, VERSION).unwrap();
        apply(ALL, &mut old).unwrap();
        assert_eq!(schema(&new), schema(&old));
        let version = |connection: &Connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        };
        assert_eq!(version(&new).unwrap(), version(&old).unwrap());
    }
}
