//! Indexes that a new registry does without while it is filled for the first time.
//!
//! A row has a place of its own in each of them; made afterwards, all rows are sorted at once,
//! which costs a fraction. Until then queries that insist on one do without it. A crash in
//! between is made good when the registry is opened.

use std::sync::{Arc, Mutex};

use rusqlite::{CachedStatement, Connection};

use super::{Result, Store, migrations};
use crate::failpoint;

/// Sessions above which no index is put off any longer: without them, queries look at every row.
const DEFER_SESSIONS_MAX: i64 = 20_000;

/// All but those of the first list, and those that a new session is not in.
const DEFERRED: &str = "SELECT name, sql FROM sqlite_schema
    WHERE type = 'index' AND (name IN ('by_check', 'binding_by_provider_session')
      OR tbl_name = 'sessions' AND name GLOB 'list_*' AND name <> 'list_activity'
      AND name NOT GLOB 'list_trash_*')";

/// The indexes that are still to be made, by their SQL.
#[derive(Clone, Debug, Default)]
pub(super) struct DeferredIndexes(Arc<Mutex<Vec<String>>>);

impl DeferredIndexes {
    /// The indexes that a registry of its version should have and has not; of a version that we
    /// do not know, none.
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

    /// Makes them all before anybody uses the registry.
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
    /// Makes the indexes that were put off, one a job, so that others get their turn.
    ///
    /// # Errors
    /// Those of SQLite; what is missing then is made by the next call, or the next start.
    pub(super) async fn build_indexes(&self) -> Result<()> {
        while let Some(sql) = self.deferred.next() {
            // Another call may have made it meanwhile.
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

    /// Puts no index off any longer once there are many sessions.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn build_indexes_if_large(&self) -> Result<()> {
        if !self.deferred.is_any() {
            return Ok(());
        }
        let last = "SELECT ifnull(max(seq), 0) FROM sessions";
        let last = self.read(move |c| Ok(c.query_row(last, [], |row| row.get::<_, i64>(0))?));
        if last.await? > DEFER_SESSIONS_MAX { self.build_indexes().await } else { Ok(()) }
    }
}

/// Drops, of a new registry, what is made when it is filled.
pub(super) fn drop_deferred(connection: &Connection) -> Result<()> {
    let drops = deferred(connection)?.into_iter().map(|(name, _)| format!("DROP INDEX {name};"));
    Ok(connection.execute_batch(&format!("BEGIN; {} COMMIT;", drops.collect::<String>()))?)
}

fn deferred(connection: &Connection) -> Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(DEFERRED)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Prepares a query that insists on an index; as long as that is missing, without it.
pub(super) fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>> {
    match connection.prepare_cached(sql) {
        Err(error) if error.to_string().contains("no such index") => {
            Ok(connection.prepare_cached(&without_index(sql))?)
        }
        prepared => Ok(prepared?),
    }
}

/// The same query, of which SQLite is free to choose the way.
fn without_index(sql: &str) -> String {
    let mut parts = sql.split(" INDEXED BY");
    let mut free = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start();
        free += rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
    }
    free
}
