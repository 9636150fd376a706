//! The registry's file: SQLite behind two threads. Knows no provider and no socket.
//!
//! One thread owns the writing connection and serves short indexed reads too; another one
//! serves slow reads, so that counting never delays a list. A job past its deadline is stopped
//! by a progress handler of its own: an interrupt would hit the next job on the connection.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use sessd_proto::service::DEADLINE_MS;
use tokio::sync::oneshot;

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

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread that owns a connection.
#[derive(Clone, Debug)]
struct Worker {
    jobs: mpsc::Sender<Work>,
    /// Jobs that have not begun.
    waiting: Arc<AtomicUsize>,
}

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
            main: thread("store", connection)?,
            slow: thread("store-slow", reader)?,
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

    /// Tells, within a job, whether other short jobs wait for it to end.
    pub fn waiting(&self) -> impl Fn() -> bool + Send + use<> {
        let waiting = Arc::clone(&self.main.waiting);
        move || waiting.load(Ordering::Relaxed) > 0
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
    let (answer, answered) = oneshot::channel();
    let waiting = Arc::clone(&worker.waiting);
    let work: Work = Box::new(move |connection| {
        waiting.fetch_sub(1, Ordering::Relaxed);
        // The caller may have gone; its answer is then of no use to anybody.
        let _ = answer.send(job(connection));
    });
    let gone = || Error::Other("the store's thread is gone".to_owned());
    worker.waiting.fetch_add(1, Ordering::Relaxed);
    worker.jobs.send(work).map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

fn within_deadline<T>(
    connection: &mut Connection,
    deadline: Duration,
    job: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    const OPERATIONS: i32 = 10_000;
    let deadline = Instant::now() + deadline;
    connection.progress_handler(OPERATIONS, Some(move || Instant::now() >= deadline))?;
    let result = job(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    result
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

fn thread(name: &str, mut connection: Connection) -> Result<Worker> {
    let (jobs, queue) = mpsc::channel::<Work>();
    let body = move || {
        for job in queue {
            job(&mut connection);
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
    Ok(Worker { jobs, waiting: Arc::default() })
}
