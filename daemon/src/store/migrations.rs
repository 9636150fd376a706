//! The history of the registry's schema. Append only: a released step is never edited.
//!
//! `schema.sql` beside this file is the result, for reading; a test compares the two. Before a
//! step touches an existing registry its file is copied; going back means putting it back.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::{Error, Result};

/// Every step, oldest first; its position plus one is the schema's version.
pub(super) const ALL: &[M<'static>] = &[M::up(FIRST)];

const FIRST: &str = "
CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    root TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE homes (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    path TEXT NOT NULL,
    env TEXT NOT NULL CHECK (json_valid(env)),
    UNIQUE (provider, path)
) STRICT;

-- provider repeats what the current binding's home says, so that an index can start with it.
CREATE TABLE sessions (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    project_id INTEGER NOT NULL REFERENCES projects (id),
    provider TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('interactive', 'headless', 'subagent')),
    launch_dir TEXT NOT NULL,
    cwd TEXT,
    title TEXT,
    model TEXT,
    git_branch TEXT,
    status TEXT NOT NULL
        CHECK (status IN ('active', 'archived', 'expired', 'invalid', 'unknown')),
    reason TEXT,
    created_at INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    checked_at INTEGER,
    expires_at INTEGER,
    -- Sessions that never expire come last.
    expires_key INTEGER AS (ifnull(expires_at, 9223372036854775807)) VIRTUAL,
    ttl_ms INTEGER,
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    trashed_at INTEGER,
    parent_id TEXT,
    revision INTEGER NOT NULL DEFAULT 1,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    launch TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(launch)),
    turns INTEGER,
    tokens_in INTEGER,
    tokens_out INTEGER,
    cost_usd REAL
) STRICT;

-- One index for each sort and each single filter with it. Lists leave out the trash and,
-- unless a kind is asked for, subagents: the conditions below and in page.rs are the same.
CREATE INDEX list_activity ON sessions (last_activity, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_created ON sessions (created_at, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_expires ON sessions (expires_key, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_project_activity ON sessions (project_id, last_activity, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_project_created ON sessions (project_id, created_at, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_project_expires
    ON sessions (project_id, expires_key, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_provider_activity ON sessions (provider, last_activity, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_provider_created ON sessions (provider, created_at, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_provider_expires
    ON sessions (provider, expires_key, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_agent_activity ON sessions (agent, last_activity, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_agent_created ON sessions (agent, created_at, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_agent_expires
    ON sessions (agent, expires_key, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_status_activity ON sessions (status, last_activity, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_status_created ON sessions (status, created_at, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_status_expires
    ON sessions (status, expires_key, seq)
    WHERE trashed_at IS NULL AND kind <> 'subagent';
CREATE INDEX list_kind_activity ON sessions (kind, last_activity, seq)
    WHERE trashed_at IS NULL;
CREATE INDEX list_kind_created ON sessions (kind, created_at, seq)
    WHERE trashed_at IS NULL;
CREATE INDEX list_kind_expires ON sessions (kind, expires_key, seq)
    WHERE trashed_at IS NULL;
-- The heartbeat takes the oldest check first.
CREATE INDEX by_check ON sessions (ifnull(checked_at, 0), seq) WHERE trashed_at IS NULL;

CREATE TABLE bindings (
    seq INTEGER PRIMARY KEY,
    home_id INTEGER NOT NULL REFERENCES homes (id),
    scope TEXT NOT NULL DEFAULT '',
    provider_session_id TEXT NOT NULL,
    location TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    current INTEGER NOT NULL DEFAULT 1 CHECK (current IN (0, 1)),
    UNIQUE (home_id, scope, provider_session_id)
) STRICT;
CREATE UNIQUE INDEX binding_of_session ON bindings (session_id) WHERE current = 1;
CREATE INDEX binding_by_provider_session ON bindings (provider_session_id);

CREATE TABLE leases (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('interactive', 'turn')),
    since INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX key_of_session ON keys (session_id);

-- The sort columns repeat the session's, so that a page of one tag is a walk along an index.
CREATE TABLE tags (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    session_seq INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_key INTEGER NOT NULL,
    PRIMARY KEY (session_id, tag)
) STRICT;
CREATE INDEX list_tag_activity ON tags (tag, last_activity, session_seq);
CREATE INDEX list_tag_created ON tags (tag, created_at, session_seq);
CREATE INDEX list_tag_expires ON tags (tag, expires_key, session_seq);
CREATE TRIGGER tags_follow_sessions
    AFTER UPDATE OF last_activity, created_at, expires_at ON sessions
BEGIN
    UPDATE tags SET last_activity = new.last_activity, created_at = new.created_at,
        expires_key = new.expires_key
    WHERE session_id = new.id;
END;

CREATE TABLE turns (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN
        ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    prompt TEXT NOT NULL,
    agent TEXT NOT NULL,
    queued_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    pgid INTEGER,
    start_ticks INTEGER,
    boot_id TEXT,
    fault TEXT CHECK (fault IS NULL OR json_valid(fault))
) STRICT;
CREATE INDEX turns_pending ON turns (queued_at) WHERE state IN ('queued', 'running');

CREATE TABLE turn_output (
    turn_id TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL CHECK (json_valid(event)),
    PRIMARY KEY (turn_id, seq)
) STRICT;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    session_id TEXT,
    data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))
) STRICT;

CREATE TABLE job_runs (
    seq INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    due INTEGER NOT NULL,
    started INTEGER NOT NULL,
    finished INTEGER,
    result TEXT NOT NULL DEFAULT 'null' CHECK (json_valid(result))
) STRICT;
CREATE INDEX job_runs_by_job ON job_runs (job, seq);

-- What the last sweep saw of each transcript; inode and mtime_ns are compared, never shown.
CREATE TABLE files (
    path TEXT NOT NULL,
    home_id INTEGER NOT NULL REFERENCES homes (id),
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    PRIMARY KEY (home_id, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    home_id INTEGER NOT NULL REFERENCES homes (id),
    scope TEXT NOT NULL,
    provider_session_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (home_id, scope, provider_session_id)
) STRICT, WITHOUT ROWID;
";

/// Brings the registry to the version of the last step; answers the copy made before, if any.
///
/// # Errors
/// [`Error::Newer`] if the registry is of a later version; the steps roll back as a whole.
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
    Migrations::from_slice(steps).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => Error::Sqlite(err),
        other => Error::Other(other.to_string()),
    })?;
    Ok(copy)
}

/// Where the copy of a registry of an older version is kept.
fn copy_path(path: &Path, version: usize) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".v{version}"));
    path.with_file_name(name)
}

/// A consistent copy, complete before it gets its name.
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
    fn a_copy_is_kept_before_a_step_and_putting_it_back_is_the_way_back() {
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
        assert!(matches!(refused, Error::Newer { found: 2, known: 1 }), "{refused:?}");
    }

    #[test]
    fn schema_sql_is_the_result_of_the_steps() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::from_slice(ALL).to_latest(&mut connection).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE \
                      'sqlite_%' ORDER BY tbl_name, type DESC, name",
            )
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut text = "-- Generated by `UPDATE=1 cargo test`; edit migrations.rs.\n".to_owned();
        for sql in rows {
            text += &format!("\n{};\n", sql.unwrap());
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/schema.sql");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 cargo test");
    }
}
