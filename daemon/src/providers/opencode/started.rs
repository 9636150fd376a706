//! Finds the session that a process has started. The family does not show it, so it is concluded,
//! and only where no other process can have started the session.

use std::fs;
use std::path::Path;

use sessd_proto::{Live, LiveState};

use super::rows::Brief;
use crate::process;
use crate::providers::{LiveSession, Start};

/// Returns the session of each start, if exactly one session can be meant and no other process in
/// the same directory has the database open.
pub(super) fn by(starts: &[Start], rows: &[Brief], database: &Path) -> Vec<LiveSession> {
    let only = |start: &Start| {
        let is_its = |row: &&Brief| {
            row.is_interactive && row.directory == start.launch_dir && row.created >= start.since.0
        };
        let mut candidates = rows.iter().filter(is_its);
        let row = candidates.next().filter(|_| candidates.next().is_none())?;
        is_alone(start, database).then(|| session(&row.id, start.pid))
    };
    let has_no_rival = |start: &&Start| {
        starts.iter().all(|it| it.pid == start.pid || it.launch_dir != start.launch_dir)
    };
    starts.iter().filter(has_no_rival).filter_map(only).collect()
}

fn session(id: &str, pid: u32) -> LiveSession {
    let live = Live { state: LiveState::Open, pid: Some(pid), ..Live::default() };
    LiveSession { provider_session_id: id.to_owned(), scope: None, live }
}

fn is_alone(start: &Start, database: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let pids = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    let mut others = pids.filter(|pid: &u32| {
        let is_ours = *pid == start.pid || process::is_below(*pid, start.pid);
        !is_ours && *pid != std::process::id()
    });
    !others.any(|pid| {
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd == Path::new(&start.launch_dir)) && has_open(pid, database)
    })
}

fn has_open(pid: u32, file: &Path) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.into_iter().any(|link| fs::read_link(link.path()).is_ok_and(|path| path == file))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use rusqlite::Connection;
    use sessd_proto::Timestamp;

    use super::*;
    use crate::providers::opencode::rows;

    fn rows(values: &str) -> Vec<Brief> {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE session (id, directory, time_created, time_updated, parent_id);
            CREATE TABLE message (session_id);";
        connection.execute_batch(&format!("{tables} INSERT INTO session VALUES {values}")).unwrap();
        rows::all(&connection).unwrap()
    }

    #[test]
    fn no_session_is_reported_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let database = folder.path().join("database");
        fs::write(&database, "").unwrap();
        let start = |pid| Start { pid, since: Timestamp(5), launch_dir: dir.to_owned() };
        let started = |starts: &[Start], rows: &[Brief]| {
            let found = by(starts, rows, &database).into_iter();
            found.map(|live| live.provider_session_id).collect::<Vec<_>>()
        };
        let row = |id: &str, at: i64, parent: &str| format!("('{id}','{dir}',{at},{at},{parent})");
        let old_and_child = format!("{},{}", row("old", 4, "NULL"), row("child", 6, "'old'"));
        let one = rows(&format!("{old_and_child},{}", row("mine", 6, "NULL")));
        let two = rows(&format!("{},{}", row("mine", 6, "NULL"), row("other", 7, "NULL")));
        assert_eq!(started(&[start(1)], &one), ["mine"]);
        assert_eq!(started(&[start(1)], &two), [""; 0], "two may be meant");
        assert_eq!(started(&[start(1), start(2)], &one), [""; 0], "two may have started it");
        assert_eq!(started(&[start(1)], &rows(&old_and_child)), [""; 0]);

        let mut sleep = Command::new("sleep");
        sleep.arg("1000").current_dir(dir).stdin(File::open(&database).unwrap());
        let mut other = sleep.spawn().unwrap();
        assert_eq!(started(&[start(u32::MAX)], &one), [""; 0], "another process has it open there");
        assert_eq!(started(&[start(other.id())], &one), ["mine"]);
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(started(&[start(u32::MAX)], &one), ["mine"]);
    }
}
