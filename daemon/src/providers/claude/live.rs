//! The state files of running CLIs: `sessions/<pid>.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sessd_proto::{Live, LiveState, Timestamp};

use super::lineage;
use crate::process::{self, Fate};
use crate::providers::{LiveSession, file, listing, pid_file};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    pid: u32,
    session_id: String,
    proc_start: Option<serde_json::Value>,
    /// The machine and the pid namespace: `linux:<machine id>:pid:[<inode>]`.
    pid_domain: Option<String>,
    kind: Option<String>,
    job_id: Option<String>,
    /// The job that has gone on with the session, while the terminal shows the list of jobs.
    parked_job_id: Option<String>,
    status: Option<String>,
    waiting_for: Option<String>,
    status_updated_at: Option<i64>,
    updated_at: Option<i64>,
    started_at: Option<i64>,
}

impl Running {
    fn recorded(&self, path: &Path) -> process::Recorded {
        let mut domain = self.pid_domain.as_deref().unwrap_or_default().splitn(3, ':');
        let (_, machine_id, namespace) = (domain.next(), domain.next(), domain.next());
        let start = self.proc_start.as_ref().map(|start| start.to_string());
        process::Recorded {
            pid: self.pid,
            namespace: namespace.and_then(pid_file::namespace),
            machine_id: machine_id.map(str::to_owned),
            start_ticks: start.and_then(|start| start.trim_matches('"').parse().ok()),
            written_at_ms: self.started_at.or_else(|| pid_file::modified_ms(path)),
            ..process::Recorded::default()
        }
    }

    /// Returns the job that the process runs in the background.
    fn job(&self) -> Option<String> {
        let job = self.job_id.as_ref().filter(|_| self.kind.as_deref() == Some("bg"));
        job.filter(|job| is_plain(job)).cloned()
    }
}

/// Returns the sessions of all running CLIs. `None` without the directory: versions before 2.1
/// write no state.
pub(super) fn read(home: &Path) -> Option<Vec<LiveSession>> {
    let mut running: Vec<_> = files(home)?.iter().filter_map(|path| of_file(home, path)).collect();
    // The process that works in a session comes before the terminal that shows it.
    running.sort_by_key(|(is_parked, _)| *is_parked);
    Some(running.into_iter().map(|(_, live)| live).collect())
}

/// Returns the job that runs a session in the background.
pub(super) fn job(home: &Path, session_id: &str) -> Option<String> {
    let of_session = |path: &PathBuf| {
        let running = parse(path).filter(|it| it.session_id == session_id)?;
        (running.recorded(path).fate() == Fate::Runs).then(|| running.job()).flatten()
    };
    files(home)?.iter().find_map(of_session)
}

fn files(home: &Path) -> Option<Vec<PathBuf>> {
    let entries = listing::root(&home.join("sessions")).ok()?;
    let files = entries.iter().filter(|entry| entry.name().ends_with(".json"));
    Some(files.map(listing::Entry::path).collect())
}

fn parse(path: &Path) -> Option<Running> {
    serde_json::from_str(&file::settings(path)?).ok()
}

/// Returns the session of a file, and true if its process only shows a job that has it.
fn of_file(home: &Path, path: &Path) -> Option<(bool, LiveSession)> {
    let running = parse(path)?;
    let since = running.status_updated_at.or(running.updated_at).or(running.started_at);
    let live = pid_file::live(&running.recorded(path), since.map(Timestamp))?;
    let parked = running.parked_job_id.as_deref().filter(|job| is_plain(job));
    let parked = parked.and_then(|job| lineage::session_of_job(home, job));
    let is_parked = parked.is_some();
    let state = match live.state {
        LiveState::Open if is_parked => LiveState::Open,
        LiveState::Open => state(running.status.as_deref()),
        state => state,
    };
    // A process of the CLI's own daemon has it; its command line names neither job nor session.
    let job = running.job().map(|job| format!("background agent {job}"));
    let what = running.waiting_for.or(job).filter(|_| live.pid.is_some()).or(live.what);
    let provider_session_id = parked.unwrap_or(running.session_id);
    let live = Live { state, what, ..live };
    Some((is_parked, LiveSession { provider_session_id, scope: None, live }))
}

fn state(status: Option<&str>) -> LiveState {
    match status {
        Some("waiting") => LiveState::Waiting,
        // One-shot runs write no status: they work until they exit.
        Some("busy") | None => LiveState::Busy,
        Some(_) => LiveState::Open,
    }
}

/// True for an id that can stand in a command as it is.
fn is_plain(id: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    !id.is_empty() && !id.starts_with('-') && id.chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn state_file_of_a_reused_pid_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        assert_eq!(read(home), None);
        let sessions = home.join("sessions");
        fs::create_dir(&sessions).unwrap();
        let pid = std::process::id();
        let ticks = process::start_ticks(pid).unwrap();
        let write = |name: &str, ticks: u64, status: &str| {
            let who = format!(r#""pid":{pid},"sessionId":"{name}","procStart":"{ticks}""#);
            let text = format!(r#"{{{who},{status}"updatedAt":7}}"#);
            fs::write(sessions.join(format!("{name}.json")), text).unwrap();
        };
        write("idle", ticks, r#""status":"idle","#);
        write("busy", ticks, r#""status":"busy","#);
        write("asks", ticks, r#""status":"waiting","waitingFor":"input needed","#);
        write("oneshot", ticks, "");
        write("reused", ticks + 1, r#""status":"busy","#);
        fs::write(sessions.join("torn.json"), "{").unwrap();
        let mut found = read(home).unwrap();
        found.sort_by(|a, b| a.provider_session_id.cmp(&b.provider_session_id));
        let states: Vec<_> = found
            .iter()
            .map(|session| (session.provider_session_id.as_str(), session.live.state))
            .collect();
        let (open, busy, waiting) = (LiveState::Open, LiveState::Busy, LiveState::Waiting);
        assert_eq!(states, [("asks", waiting), ("busy", busy), ("idle", open), ("oneshot", busy)]);
        assert_eq!(found[0].live.what.as_deref(), Some("input needed"));
        assert_eq!(found[2].live.since, Some(Timestamp(7)));
    }

    /// Writes the state file of a process with the pid of this one.
    fn write(home: &Path, name: &str, more: serde_json::Value) {
        let mut record = serde_json::json!({ "pid": std::process::id(), "sessionId": name });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::create_dir_all(home.join("sessions")).unwrap();
        fs::write(home.join(format!("sessions/{name}.json")), record.to_string()).unwrap();
    }

    #[test]
    fn file_from_before_its_process_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "crashed", serde_json::json!({ "startedAt": 1_795_250_337_520_i64 }));
        write(folder.path(), "elsewhere", serde_json::json!({ "pidDomain": "linux:x:pid:[1]" }));
        let found = read(folder.path()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].live, Live::default());
    }

    #[test]
    fn background_agent_is_named_and_wins_over_its_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        write(home, "old", serde_json::json!({ "status": "idle", "parkedJobId": "6688c966" }));
        let job = serde_json::json!({ "status": "busy", "kind": "bg", "jobId": "6688c966" });
        write(home, "new", job);
        fs::create_dir_all(home.join("jobs/6688c966")).unwrap();
        fs::write(home.join("jobs/6688c966/state.json"), r#"{"sessionId":"new"}"#).unwrap();
        let found = read(home).unwrap();
        let ids: Vec<_> = found.iter().map(|live| &*live.provider_session_id).collect();
        assert_eq!(ids, ["new", "new"]);
        assert_eq!(found[0].live.state, LiveState::Busy);
        assert_eq!(found[0].live.what.as_deref(), Some("background agent 6688c966"));
        assert_eq!(super::job(home, "new").as_deref(), Some("6688c966"));
        assert_eq!(super::job(home, "old"), None);
    }
}
