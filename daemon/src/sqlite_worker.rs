//! A thread that owns an SQLite connection and runs jobs on it, one after the other.
//!
//! Callers are async and SQLite blocks, so a connection lives on an OS thread of its own and
//! jobs are sent to it. A job past its deadline is stopped by a progress handler that is set for
//! this job only: `sqlite3_interrupt` from outside could hit the next job on the connection.
//! Knows no table, no file and no store.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

/// Virtual machine instructions between two looks at the deadline.
const DEADLINE_CHECK_OPS: i32 = 10_000;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread that owns a connection. It ends with the last clone of its handle.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    /// Jobs that have not started.
    queued: Arc<AtomicUsize>,
}

/// The thread has ended, which only a panic in a job can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerGone;

impl fmt::Display for WorkerGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database thread has ended")
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system gives no further thread.
    pub(crate) fn start(name: &str, mut connection: Connection) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let body = move || {
            for job in queue {
                job(&mut connection);
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { jobs, queued: Arc::default() })
    }

    /// Runs a job after those that were sent before, and returns what it returns. A job that was
    /// sent runs even if its caller stops waiting.
    ///
    /// # Errors
    /// Fails if the thread has ended.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, WorkerGone> {
        let (sender, result) = oneshot::channel();
        let queued = Arc::clone(&self.queued);
        let job: Job = Box::new(move |connection| {
            queued.fetch_sub(1, Ordering::Relaxed);
            // The caller may have stopped waiting.
            let _ = sender.send(job(connection));
        });
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(job).map_err(|_| WorkerGone)?;
        result.await.map_err(|_| WorkerGone)
    }

    /// Returns a test, for use within a long job, that is true while other jobs wait for it.
    pub(crate) fn has_queued(&self) -> impl Fn() -> bool + Send + use<> {
        let queued = Arc::clone(&self.queued);
        move || queued.load(Ordering::Relaxed) > 0
    }
}

/// Runs a job and stops its query once the deadline has passed.
///
/// # Errors
/// Returns the error of the job, which is SQLite's `OperationInterrupted` after the deadline.
pub(crate) fn within_deadline<T, E: From<rusqlite::Error>>(
    connection: &Connection,
    deadline: Duration,
    job: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + deadline;
    connection.progress_handler(DEADLINE_CHECK_OPS, Some(move || Instant::now() >= deadline))?;
    let result = job(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_in_order_and_a_long_one_sees_who_waits() {
        let worker = Worker::start("test", Connection::open_in_memory().unwrap()).unwrap();
        let has_queued = worker.has_queued();
        let first = worker.run(move |_| {
            while !has_queued() {
                std::thread::yield_now();
            }
            Instant::now()
        });
        let (first, second) = tokio::join!(first, worker.run(|_| Instant::now()));
        assert!(first.unwrap() <= second.unwrap());
    }

    #[tokio::test]
    async fn a_panic_in_a_job_is_an_error_for_all_after_it() {
        let worker = Worker::start("test", Connection::open_in_memory().unwrap()).unwrap();
        assert!(worker.run(|_| panic!("on purpose")).await.map(|(): ()| ()).is_err());
        assert!(worker.run(|_| ()).await.is_err());
    }
}
