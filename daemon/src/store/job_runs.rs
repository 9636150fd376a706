//! Runs of jobs: due time, start, end and result. Knows no job.

use rusqlite::{Connection, OptionalExtension};
use sessd_proto::job::JobRun;
use sessd_proto::{Json, Timestamp};

use super::Result;

/// Records the start of a run and returns its row number.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn start(connection: &Connection, job: &str, due: Timestamp, at: Timestamp) -> Result<i64> {
    let mut statement = connection
        .prepare_cached("INSERT INTO job_runs (job, due, started) VALUES (?1, ?2, ?3)")?;
    Ok(statement.insert((job, due.0, at.0))?)
}

/// Records the end and the result of a run.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn finish(connection: &Connection, seq: i64, at: Timestamp, result: &Json) -> Result<()> {
    let mut statement = connection
        .prepare_cached("UPDATE job_runs SET finished = ?2, result = ?3 WHERE seq = ?1")?;
    statement.execute((seq, at.0, result.0.to_string()))?;
    Ok(())
}

/// Returns the last run of a job.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn last(connection: &Connection, job: &str) -> Result<Option<JobRun>> {
    let mut statement = connection.prepare_cached(
        "SELECT due, started, finished, result FROM job_runs WHERE job = ?1
         ORDER BY seq DESC LIMIT 1",
    )?;
    let run = statement.query_row([job], |row| {
        Ok(JobRun {
            due: Timestamp(row.get("due")?),
            started: Timestamp(row.get("started")?),
            finished: row.get::<_, Option<_>>("finished")?.map(Timestamp),
            result: Json(
                serde_json::from_str(row.get_ref("result")?.as_str()?).unwrap_or_default(),
            ),
        })
    });
    Ok(run.optional()?)
}

/// Deletes all but the newest runs of a job.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn keep_newest(connection: &Connection, job: &str, count: u32) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM job_runs WHERE job = ?1 AND seq <= (
             SELECT seq FROM job_runs WHERE job = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
    )?;
    statement.execute((job, count))?;
    Ok(())
}
