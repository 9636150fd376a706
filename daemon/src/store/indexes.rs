//! Deferred indexes: a new registry is created without most of its indexes and gets them after its
//! first import.
//!
//! Maintaining every index during a bulk load costs far more than building them once afterwards:
//! each row goes to a random place in each of some twenty trees, so pages are read, changed and
//! written again and again, while building sorts all rows once. Until an index exists, queries
//! that name it with `INDEXED BY` run without it ([`prepare`]); a short table makes that
//! acceptable, and above [`DEFER_SESSIONS_MAX`] sessions the indexes are built at once, even in
//! the middle of an import. They are built one per job, so other requests get their turn in
//! between. After a crash in between, the missing ones are built when the registry is opened.
//! The index of the first page (`list_activity`) is never deferred.

use std::sync::{Arc, Mutex};

use rusqlite::{CachedStatement, Connection};

use super::{Result, Store, migrations};
use crate::failpoint;

/// Number of sessions above which indexes are no longer deferred: without them, queries look at
/// every row.
const DEFER_SESSIONS_MAX: i64 = 20_000;

/// The indexes to defer: all but that of the default list, and those that a new session is not
/// in.
const DEFERRED: &str = "SELECT name, sql FROM sqlite_schema
    WHERE type = 'index' AND (name IN ('by_check', 'binding_by_provider_session')
      OR tbl_name = 'sessions' AND name GLOB 'list_*' AND name <> 'list_activity'
      AND name NOT GLOB 'list_trash_*')";

/// The indexes that are still to be built, as SQL.
#[derive(Clone, Debug, Default)]
pub(super) struct DeferredIndexes(Arc<Mutex<Vec<String>>>);

impl DeferredIndexes {
    /// Returns the indexes that a registry of this schema version should have but lacks; none for
    /// a version that this build does not know.
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if !(1..=migrations::VERSION).contains(&version) {
            return Ok(Self::default());
        }
        let mut whole = Connection::open_in_memory()?;
        migrations::make(&mut whole, version)?;
        let present = deferred(connection)?;
        let mut wanted = deferred(&whole)?;
        wanted.retain(|index| !present.contains(index));
        Ok(Self(Arc::new(Mutex::new(wanted.into_iter().map(|(_, sql)| sql).collect()))))
    }

    /// Builds them all at once, before the registry is in use.
    pub(super) fn build(&self, connection: &Connection) -> Result<()> {
        while let Some(sql) = self.next() {
            connection.execute_batch(&sql)?;
            self.mark_built(&sql);
            failpoint::reach("index.made");
        }
        Ok(())
    }

    pub(super) fn is_any(&self) -> bool {
        self.next().is_some()
    }

    fn next(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).last().cloned()
    }

    fn mark_built(&self, sql: &str) {
        let mut missing = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        missing.retain(|other| other != sql);
    }
}

impl Store {
    /// Builds the deferred indexes, one per job, so that other jobs run in between.
    ///
    /// # Errors
    /// Fails if the registry cannot be written; the next call or the next start goes on.
    pub(super) async fn build_indexes(&self) -> Result<()> {
        while let Some(sql) = self.deferred.next() {
            // Another call may have built it by now.
            let create = sql.replacen("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1);
            self.write(move |tx| {
                tx.execute_batch(&create)?;
                failpoint::reach("index.making");
                Ok(())
            })
            .await?;
            self.deferred.mark_built(&sql);
            failpoint::reach("index.made");
        }
        Ok(())
    }

    /// Builds the deferred indexes once the registry has more than `DEFER_SESSIONS_MAX` sessions.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub async fn build_indexes_if_large(&self) -> Result<()> {
        if !self.deferred.is_any() {
            return Ok(());
        }
        let last = "SELECT ifnull(max(seq), 0) FROM sessions";
        let last = self.read(move |c| Ok(c.query_row(last, [], |row| row.get::<_, i64>(0))?));
        if last.await? > DEFER_SESSIONS_MAX { self.build_indexes().await } else { Ok(()) }
    }
}

/// Drops the deferred indexes of a new registry.
pub(super) fn drop_deferred(connection: &Connection) -> Result<()> {
    let drops = deferred(connection)?.into_iter().map(|(name, _)| format!("DROP INDEX {name};"));
    Ok(connection.execute_batch(&format!("BEGIN; {} COMMIT;", drops.collect::<String>()))?)
}

fn deferred(connection: &Connection) -> Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(DEFERRED)?;
    let rows = statement.query_map([], |row| Ok((row.get("name")?, row.get("sql")?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Prepares a query with `INDEXED BY`, or without that clause while the index is missing.
pub(super) fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>> {
    match connection.prepare_cached(sql) {
        Err(error) if error.to_string().contains("no such index") => {
            Ok(connection.prepare_cached(&without_index(sql))?)
        }
        prepared => Ok(prepared?),
    }
}

/// Returns the query without its `INDEXED BY` clauses.
fn without_index(sql: &str) -> String {
    let mut parts = sql.split(" INDEXED BY");
    let mut free = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start();
        free += rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
    }
    free
}
