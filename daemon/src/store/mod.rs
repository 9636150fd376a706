//! The registry's database, one file per kind of row. Knows no provider and no socket.
//!
//! Design notes:
//!
//! - One thread owns the writing connection and serves short indexed reads too, so writes need
//!   no lock and a read sees what was just written. A second thread serves reads that may look
//!   at every row, so that counting never delays a list.
//! - WAL with `synchronous=NORMAL`: a commit costs no fsync, and a power cut loses the last ones
//!   but never the file. That is right for what a sweep would find again ([`Store::write`]). What
//!   a caller is told is done must survive: [`Store::write_durable`] commits with `FULL`.
//! - Pages are keyset pages along an index, never `OFFSET`, so each costs the same. The indexes
//!   of lists are partial; their `WHERE` in the schema and the conditions in `page.rs` must say
//!   the same, since SQLite uses a partial index only where the query implies its condition. Tests
//!   compare the plans.
//! - Migrations are append-only and run after a copy of the file was made; see `migrations.rs`.
//! - A new registry is filled without most of its indexes (`indexes.rs`); a damaged file is found
//!   when it is opened (`file.rs`), and a full disk still takes deletions (`reserve.rs`).
//! - Text and JSON files were rejected: two writers lose updates, and a page costs a full read. A
//!   pool of connections was rejected: its writers wait for each other in SQLite's busy handler,
//!   where no deadline ends them, and each connection has a page cache of its own. An ORM was
//!   rejected: the index that a query uses is part of its contract here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use sessd_proto::service::DEADLINE_MS;

use crate::sqlite_worker::{Worker, within_deadline};

pub mod annotations;
pub mod bindings;
pub mod clock_samples;
mod columns;
mod error;
pub mod events;
mod file;
pub mod files;
pub mod import;
mod indexes;
pub mod job_runs;
pub mod keys;
pub mod leases;
pub mod merge;
mod migrations;
mod moved;
pub mod page;
pub mod rebind;
mod reserve;
pub mod selector;
pub mod sessions;
pub mod trash;
pub mod turns;
pub mod twins;
mod usage;

#[cfg(test)]
mod tests;

pub use error::Error;
use file::{IMPORTING, NORMAL};
pub use file::{mark_suspect, put_aside};
use indexes::DeferredIndexes;
use reserve::Reserve;

/// The result of an operation on the registry.
pub type Result<T> = std::result::Result<T, Error>;

/// The registry's database.
#[derive(Clone, Debug)]
pub struct Store {
    main: Worker,
    slow: Worker,
    /// Reads that take longer are stopped.
    deadline: Duration,
    reserve: Arc<Reserve>,
    deferred: DeferredIndexes,
}

impl Store {
    /// Opens the registry, creating or migrating it where necessary.
    ///
    /// # Errors
    /// [`Error::Newer`] if a later version wrote it, [`Error::Damaged`] if it is damaged; both
    /// leave the file as it is. Fails if it cannot be opened or written.
    pub fn open(path: &Path) -> Result<Self> {
        let reserve = Arc::new(Reserve::beside(path));
        let (connection, deferred) = match file::writer(path) {
            Err(error) if error.is_full() && reserve.release() => file::writer(path)?,
            opened => opened?,
        };
        let reader = file::reader(path)?;
        reserve.refill();
        Ok(Self {
            main: start_worker("store", connection)?,
            slow: start_worker("store-slow", reader)?,
            deadline: Duration::from_millis(DEADLINE_MS),
            reserve,
            deferred,
        })
    }

    /// Runs a short indexed read.
    ///
    /// # Errors
    /// Returns the error of the job; [`sessd_proto::FaultCode::Deadline`] after 5 seconds.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline;
        run(&self.main, move |connection| within_deadline(connection, deadline, job)).await
    }

    /// Runs a read that may look at every row, then frees its page cache: connections share one
    /// memory limit in the default build of SQLite, so it would leave none for short reads.
    ///
    /// # Errors
    /// Returns the error of the job; [`sessd_proto::FaultCode::Deadline`] after 5 seconds.
    pub async fn read_slowly<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline;
        let job = move |connection: &mut Connection| {
            let result = within_deadline(connection, deadline, job);
            connection.execute_batch("PRAGMA shrink_memory")?;
            result
        };
        run(&self.slow, job).await
    }

    /// Runs a transaction without fsync; after a power cut the next sweep would rediscover what it
    /// wrote.
    ///
    /// # Errors
    /// Returns the error of the job; then nothing has changed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reserve = Arc::clone(&self.reserve);
        run(&self.main, move |connection| with_reserve(connection, &reserve, |c| transact(c, job)))
            .await
    }

    /// Runs a durable transaction (`synchronous=FULL`): committed to disk before the caller gets
    /// its answer.
    ///
    /// # Errors
    /// Returns the error of the job; then nothing has changed.
    pub async fn write_durable<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reserve = Arc::clone(&self.reserve);
        let job = move |connection: &mut Connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let result = transact(connection, job);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            result
        };
        run(&self.main, move |connection| with_reserve(connection, &reserve, job)).await
    }

    /// True from the moment the disk is full until there is room again.
    #[must_use]
    pub fn is_short_of_space(&self) -> bool {
        self.reserve.is_released()
    }

    /// True while indexes are deferred, until the end of the first import.
    #[must_use]
    pub fn is_first_import(&self) -> bool {
        self.deferred.is_any()
    }

    /// Raises cache and log sizes for a large import: its rows are spread over every index, and
    /// with the normal sizes each page would be written many times.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub async fn begin_import(&self) -> Result<()> {
        run(&self.main, |connection| Ok(file::tune(connection, IMPORTING)?)).await
    }

    /// Builds the deferred indexes and restores the normal sizes after [`Store::begin_import`]. The
    /// log is checkpointed on the other thread, beside other work.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub async fn end_import(&self) -> Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        let copied =
            run(&self.slow, |connection| Ok(connection.query_row(checkpoint, [], |_| Ok(()))?));
        let copied = copied.await;
        // The memory is freed even if the indexes cannot be built.
        let made = self.build_indexes().await;
        let rested = run(&self.main, |connection| Ok(file::tune(connection, NORMAL)?)).await;
        rested.and(self.shrink().await).and(made).and(copied)
    }

    /// Frees the page cache; later reads fill it again.
    ///
    /// # Errors
    /// Fails if the registry cannot be written.
    pub async fn shrink(&self) -> Result<()> {
        run(&self.main, |connection| Ok(connection.execute_batch("PRAGMA shrink_memory")?)).await
    }

    /// Returns a test, for use within a long job, that is true while short jobs wait for it.
    pub fn waiting(&self) -> impl Fn() -> bool + Send + use<> {
        self.main.has_queued()
    }

    /// Refuses all further writes (of a sweep that is still running, for example) and checkpoints
    /// the log, so that the one file is complete.
    ///
    /// # Errors
    /// Fails if the log cannot be checkpointed; the log then stays beside the file and nothing is
    /// lost.
    pub async fn stop_writes(&self) -> Result<()> {
        const ATTEMPTS: u32 = 3;
        for _ in 0..ATTEMPTS {
            let job = |connection: &mut Connection| {
                connection.pragma_update(None, "query_only", true)?;
                checkpoint(connection)
            };
            if run(&self.main, job).await? {
                return Ok(());
            }
            // The checkpoint does not wait for the other thread, which may be at one as well.
            run(&self.slow, |_| Ok(())).await?;
        }
        tracing::warn!("the registry's log stays beside it: another process is reading it");
        Ok(())
    }
}

async fn run<T: Send + 'static>(
    worker: &Worker,
    job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    worker.run(job).await.map_err(|gone| Error::Other(gone.to_string()))?
}

/// Runs a write. If the disk is full it fails, and the reserve is released: later writes that
/// must not fail, such as the ends of turns and leases, or that free space, then succeed.
fn with_reserve<T>(
    connection: &mut Connection,
    reserve: &Reserve,
    write: impl FnOnce(&mut Connection) -> Result<T>,
) -> Result<T> {
    let result = write(connection);
    match &result {
        Err(error) if error.is_full() => {
            if reserve.release() {
                tracing::error!("the disk is full: the reserve is released");
            }
            // Otherwise the log would grow with every further write.
            checkpoint(connection)?;
        }
        Ok(_) => reserve.refill(),
        Err(_) => {}
    }
    result
}

/// Checkpoints and empties the log; `false` if a reader prevents it.
fn checkpoint(connection: &Connection) -> Result<bool> {
    let busy = |row: &Row<'_>| row.get::<_, bool>(0);
    Ok(!connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], busy)?)
}

fn transact<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn start_worker(name: &str, connection: Connection) -> Result<Worker> {
    Worker::start(name, connection)
        .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))
}
