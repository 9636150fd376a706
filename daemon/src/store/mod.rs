//! The registry's file: SQLite behind two threads. Knows no provider and no socket.
//!
//! One thread owns the writing connection and serves short indexed reads too; another one
//! serves slow reads, so that counting never delays a list. A job past its deadline is stopped
//! by a progress handler of its own: an interrupt would hit the next job on the connection.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use sessd_proto::service::DEADLINE_MS;
use sessd_proto::{Fault, FaultCode};
use tokio::sync::oneshot;

pub mod bindings;
pub mod events;
mod file;
pub mod files;
pub mod job_runs;
pub mod leases;
mod migrations;
pub mod page;
pub mod selector;
pub mod sessions;
pub mod turns;

#[cfg(test)]
mod tests;

use file::{IMPORTING, RESTING};
pub use file::{put_aside, suspect};

/// What goes wrong in the registry's file.
#[derive(Debug)]
pub enum Error {
    /// SQLite's own failure.
    Sqlite(rusqlite::Error),
    /// The file is of a later version.
    Newer {
        /// The version of the file.
        found: usize,
        /// The last version this build knows.
        known: usize,
    },
    /// The file is not what it should be.
    Damaged(String),
    /// A failure that is already worded for the caller.
    Fault(Fault),
    /// Anything else.
    Other(String),
}

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
}

impl Store {
    /// Opens the registry, makes it if there is none, and brings it to the present version.
    ///
    /// # Errors
    /// [`Error::Newer`] and [`Error::Damaged`] leave the file as it is.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = file::writer(path)?;
        let reader = file::reader(path)?;
        Ok(Self {
            main: thread("store", connection)?,
            slow: thread("store-slow", reader)?,
            deadline: Duration::from_millis(DEADLINE_MS),
        })
    }

    /// Runs a short indexed read.
    ///
    /// # Errors
    /// What the job answers; [`FaultCode::Deadline`] after 5 seconds.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline;
        run(&self.main, move |connection| within_deadline(connection, deadline, job)).await
    }

    /// Runs a read that may look at every row.
    ///
    /// # Errors
    /// What the job answers; [`FaultCode::Deadline`] after 5 seconds.
    pub async fn read_slowly<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = self.deadline;
        run(&self.slow, move |connection| within_deadline(connection, deadline, job)).await
    }

    /// Runs a transaction whose loss in a power cut would only be seen again by the next sweep.
    ///
    /// # Errors
    /// What the job answers; then nothing has changed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        run(&self.main, move |connection| transact(connection, job)).await
    }

    /// Runs a transaction that a caller was promised: on disk before it is answered.
    ///
    /// # Errors
    /// What the job answers; then nothing has changed.
    pub async fn promise<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let job = move |connection: &mut Connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let result = transact(connection, job);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            result
        };
        run(&self.main, job).await
    }

    /// Takes more memory and a longer log of changes for a large import: its rows go to places
    /// all over every index, and each page would be written again and again.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn begin_import(&self) -> Result<()> {
        run(&self.main, |connection| Ok(file::set_room(connection, IMPORTING)?)).await
    }

    /// Gives back what [`Store::begin_import`] took. The log is copied back beside other work.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn end_import(&self) -> Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        run(&self.slow, |connection| Ok(connection.query_row(checkpoint, [], |_| Ok(()))?)).await?;
        let job = |connection: &mut Connection| {
            file::set_room(connection, RESTING)?;
            Ok(connection.execute_batch("PRAGMA shrink_memory")?)
        };
        run(&self.main, job).await
    }

    /// Tells, within a job, whether other short jobs wait for it to end.
    pub fn waiting(&self) -> impl Fn() -> bool + Send + use<> {
        let waiting = Arc::clone(&self.main.waiting);
        move || waiting.load(Ordering::Relaxed) > 0
    }

    /// Brings everything into the one file, so that a copy of it is complete.
    ///
    /// # Errors
    /// Those of SQLite; nothing is lost then.
    pub async fn settle(&self) -> Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        run(&self.main, |connection| Ok(connection.query_row(checkpoint, [], |_| Ok(()))?)).await
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

impl Error {
    /// True if the file itself is broken, not just this use of it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(f, "{error}"),
            Self::Newer { found, known } => write!(f, "schema {found}, this build knows {known}"),
            Self::Damaged(what) | Self::Other(what) => f.write_str(what),
            Self::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let hint = "see `sessctl doctor`; reading goes on, and writing by itself once it can";
        match &error {
            Error::Fault(fault) => return fault.clone(),
            Error::Newer { found, known } => {
                let what = format!(
                    "the registry is of version {found}, this sessd knows versions up to {known}"
                );
                return Self::new(FaultCode::RegistryNewer, what)
                    .hint("install the newer sessd again, or put the copy made before back");
            }
            _ if error.is_damage() => {
                return Self::new(FaultCode::RegistryDamaged, format!("the registry: {error}"))
                    .hint("restart the daemon: `sessctl daemon restart`");
            }
            _ => {}
        }
        match error {
            Error::Sqlite(sqlite) => match sqlite.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => {
                    Self::new(FaultCode::Storage, "the disk with the registry is full").hint(hint)
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
                    Self::new(FaultCode::Storage, format!("the registry: {sqlite}")).hint(hint)
                }
                Some(ErrorCode::OperationInterrupted) => Self::new(
                    FaultCode::Deadline,
                    format!("the registry did not answer within {DEADLINE_MS} ms"),
                )
                .hint("ask for less, or again in a moment"),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::new(FaultCode::Storage, "another program has locked the registry")
                        .hint("who: `fuser` on the file that `sessctl status` names")
                }
                _ => Self::internal(sqlite),
            },
            other => Self::internal(other),
        }
    }
}
