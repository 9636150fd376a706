//! The registry's database. Knows no provider and no socket.
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

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use sessd_proto::service::DEADLINE_MS;

use crate::sqlite_worker::{Worker, within_deadline};

pub mod annotations;
pub mod bindings;
pub mod clock_samples;
mod error;
pub mod events;
mod file;
pub mod files;
pub mod import;
mod indexes;
pub mod job_runs;
pub mod keys;
pub mod leases;
mod migrations;
pub mod page;
pub mod rebind;
mod reserve;
pub mod selector;
pub mod sessions;
pub mod trash;
pub mod turns;

#[cfg(test)]
mod tests;

pub use error::Error;
use file::{IMPORTING, NORMAL};
pub use file::{mark_suspect, put_aside};
use indexes::DeferredIndexes;
use reserve::Reserve;

/// The result of everything that touches the registry's file.
pub type Result<T> = std::result::Result<T, Error>;

/// The registry's file.
#[derive(Clone, Debug)]
pub struct Store {
    main: Worker,
    slow: Worker,
    /// A read past it is stopped.
    deadline: Duration,
    reserve: Arc<Reserve>,
    deferred: DeferredIndexes,
}

impl Store {
    /// Opens the registry, makes it if there is none, and brings it to the present version.
    ///
    /// # Errors
    /// [`Error::Newer`] and [`Error::Damaged`] leave the file as it is.
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
    /// What the job answers; [`sessd_proto::FaultCode::Deadline`] after 5 seconds.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline;
        run(&self.main, move |connection| within_deadline(connection, deadline, job)).await
    }

    /// Runs a read that may look at every row, and gives back the memory that it took: as SQLite
    /// is built by default, connections share what they may keep, and pages of the one would
    /// leave the other none.
    ///
    /// # Errors
    /// What the job answers; [`sessd_proto::FaultCode::Deadline`] after 5 seconds.
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

    /// Runs a transaction whose loss in a power cut would only be seen again by the next sweep.
    ///
    /// # Errors
    /// What the job answers; then nothing has changed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reserve = Arc::clone(&self.reserve);
        run(&self.main, move |connection| with_reserve(connection, &reserve, |c| transact(c, job)))
            .await
    }

    /// Runs a transaction that a caller was promised: on disk before it is answered.
    ///
    /// # Errors
    /// What the job answers; then nothing has changed.
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

    /// True since the disk was full and until there is room again.
    #[must_use]
    pub fn is_short_of_space(&self) -> bool {
        self.reserve.is_released()
    }

    /// True while the registry is filled for the first time.
    #[must_use]
    pub fn is_first_import(&self) -> bool {
        self.deferred.is_any()
    }

    /// Takes more memory and a longer log of changes for a large import: its rows go to places
    /// all over every index, and each page would be written again and again.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn begin_import(&self) -> Result<()> {
        run(&self.main, |connection| Ok(file::tune(connection, IMPORTING)?)).await
    }

    /// Gives back what [`Store::begin_import`] took, after the indexes are made that were put off.
    /// The log is copied back beside other work.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn end_import(&self) -> Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        let copied =
            run(&self.slow, |connection| Ok(connection.query_row(checkpoint, [], |_| Ok(()))?));
        let copied = copied.await;
        // Even if there is no room for them, the memory is given back.
        let made = self.build_indexes().await;
        let rested = run(&self.main, |connection| Ok(file::tune(connection, NORMAL)?)).await;
        rested.and(self.shrink().await).and(made).and(copied)
    }

    /// Gives back the memory that holds pages of the file; who asks next reads them again.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn shrink(&self) -> Result<()> {
        run(&self.main, |connection| Ok(connection.execute_batch("PRAGMA shrink_memory")?)).await
    }

    /// Returns a test, for use within a long job, that is true while short jobs wait for it.
    pub fn waiting(&self) -> impl Fn() -> bool + Send + use<> {
        self.main.has_queued()
    }

    /// Brings everything into the one file, so that a copy of it is complete. Whatever would
    /// still be written, as by a sweep that is under way, is refused from then on.
    ///
    /// # Errors
    /// Those of SQLite; nothing is lost then.
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
            // A log that the other thread copies back at this moment is not waited for.
            run(&self.slow, |_| Ok(())).await?;
        }
        tracing::warn!("the registry's log of changes stays beside it: somebody reads it");
        Ok(())
    }
}

async fn run<T: Send + 'static>(
    worker: &Worker,
    job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    worker.run(job).await.map_err(|gone| Error::Other(gone.to_string()))?
}

/// Runs a write. On a full disk it fails, and the reserve makes room for those that must not:
/// the ends of turns and leases, and the deletions that make more room.
fn with_reserve<T>(
    connection: &mut Connection,
    reserve: &Reserve,
    write: impl FnOnce(&mut Connection) -> Result<T>,
) -> Result<T> {
    let result = write(connection);
    match &result {
        Err(error) if error.is_full() => {
            if reserve.release() {
                tracing::error!("the disk is full: the reserve is used");
            }
            // The log of changes would grow with every further one.
            checkpoint(connection)?;
        }
        Ok(_) => reserve.refill(),
        Err(_) => {}
    }
    result
}

/// Copies the log of changes back and empties it; `false` if somebody is in the way.
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
