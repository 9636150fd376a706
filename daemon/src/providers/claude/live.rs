//! The state files of running CLIs: `sessions/<pid>.json`.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use sessd_proto::{Live, LiveState, Timestamp};

use crate::process;
use crate::providers::{LiveSession, listing};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    pid: u32,
    session_id: String,
    proc_start: Option<serde_json::Value>,
    status: Option<String>,
    waiting_for: Option<String>,
    status_updated_at: Option<i64>,
    updated_at: Option<i64>,
    started_at: Option<i64>,
}

/// Returns the sessions of all running CLIs. `None` without the directory: versions before 2.1
/// write no state.
pub(super) fn read(folder: &Path) -> Option<Vec<LiveSession>> {
    let entries = listing::root(folder).ok()?;
    let running = entries.iter().filter(|entry| entry.name().ends_with(".json"));
    Some(running.filter_map(|entry| of_file(&entry.path())).collect())
}

fn of_file(path: &Path) -> Option<LiveSession> {
    let running: Running = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let ticks = process::start_ticks(running.pid)?;
    // The file outlives a kill and the pid may be reused; the start time tells them apart.
    let recorded = running.proc_start.as_ref().map(|start| start.to_string());
    if recorded.is_some_and(|start| start.trim_matches('"') != ticks.to_string()) {
        return None;
    }
    let since = running.status_updated_at.or(running.updated_at).or(running.started_at);
    let live = Live {
        state: state(running.status.as_deref()),
        pid: Some(running.pid),
        what: running.waiting_for.or_else(|| process::command(running.pid)),
        since: since.map(Timestamp),
    };
    Some(LiveSession { provider_session_id: running.session_id, scope: None, live })
}

fn state(status: Option<&str>) -> LiveState {
    match status {
        Some("waiting") => LiveState::Waiting,
        // One-shot runs write no status: they work until they exit.
        Some("busy") | None => LiveState::Busy,
        Some(_) => LiveState::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_file_of_a_reused_pid_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")), None);
        let pid = std::process::id();
        let ticks = process::start_ticks(pid).unwrap();
        let write = |name: &str, ticks: u64, status: &str| {
            let who = format!(r#""pid":{pid},"sessionId":"{name}","procStart":"{ticks}""#);
            let text = format!(r#"{{{who},{status}"updatedAt":7}}"#);
            fs::write(folder.path().join(format!("{name}.json")), text).unwrap();
        };
        write("idle", ticks, r#""status":"idle","#);
        write("busy", ticks, r#""status":"busy","#);
        write("asks", ticks, r#""status":"waiting","waitingFor":"input needed","#);
        write("oneshot", ticks, "");
        write("reused", ticks + 1, r#""status":"busy","#);
        fs::write(folder.path().join("torn.json"), "{").unwrap();
        let mut found = read(folder.path()).unwrap();
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
}
