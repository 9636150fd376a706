//! The state files of running CLIs: `sessions/<pid>.json`, written from 0.24 on by all but one-shot
//! runs.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sessd_proto::Timestamp;

use super::{HOME, RUNTIME};
use crate::process::Recorded;
use crate::providers::{Home, LiveSession, file, listing, pid_file};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    pid: u32,
    session_id: String,
    /// Boot id and start ticks: `<boot id>:<ticks>`.
    proc_start: Option<String>,
    /// The inode number of the pid namespace.
    pid_ns: Option<u64>,
    started_at: Option<i64>,
}

impl Running {
    fn recorded(&self, path: &Path) -> Recorded {
        let start = self.proc_start.as_deref().and_then(|start| start.split_once(':'));
        Recorded {
            pid: self.pid,
            namespace: self.pid_ns,
            boot_id: start.map(|(boot_id, _)| boot_id.to_owned()),
            start_ticks: start.and_then(|(_, ticks)| ticks.parse().ok()),
            written_at_ms: self.started_at.or_else(|| pid_file::modified_ms(path)),
            ..Recorded::default()
        }
    }
}

/// Returns the sessions of all running CLIs. `None` without the directory: earlier versions write
/// no state.
pub(super) fn read(home: &Home) -> Option<Vec<LiveSession>> {
    let entries = listing::root(&folder(home)?).ok()?;
    let running = entries.iter().filter(|entry| entry.name().ends_with(".json"));
    Some(running.filter_map(|entry| of_file(&entry.path())).collect())
}

/// Returns the folder of the files, which is beside the settings. `None` if only the transcripts
/// of the home were moved: then it is not known where the settings are.
pub(super) fn folder(home: &Home) -> Option<PathBuf> {
    let value = |name: &str| home.env.get(name).cloned().flatten();
    let settings = match (value(HOME), value(RUNTIME)) {
        (Some(settings), _) => settings.into(),
        (None, Some(_)) => return None,
        (None, None) => home.path.clone(),
    };
    Some(settings.join("sessions"))
}

fn of_file(path: &Path) -> Option<LiveSession> {
    let running: Running = serde_json::from_str(&file::settings(path)?).ok()?;
    let since = running.started_at.map(Timestamp);
    let live = pid_file::live(&running.recorded(path), since)?;
    Some(LiveSession { provider_session_id: running.session_id, scope: None, live })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use sessd_proto::LiveState;

    use super::*;
    use crate::process;

    #[test]
    fn state_file_counts_while_its_process_runs() {
        let root = tempfile::tempdir().unwrap();
        let env = [(HOME.to_owned(), None), (RUNTIME.to_owned(), None)].into();
        let home = Home { path: root.path().to_owned(), env };
        assert_eq!(read(&home), None);
        fs::create_dir(root.path().join("sessions")).unwrap();
        let (pid, boot) = (std::process::id(), process::boot_id());
        let ticks = process::start_ticks(pid).unwrap();
        let write = |id: &str, start: String| {
            let record = json!({ "schemaVersion": 1, "pid": pid, "sessionId": id,
                "procStart": start, "startedAt": 7, "kind": "tui" });
            fs::write(root.path().join(format!("sessions/{id}.json")), record.to_string())
        };
        write("open", format!("{boot}:{ticks}")).unwrap();
        write("reused", format!("{boot}:{}", ticks + 1)).unwrap();
        write("rebooted", format!("another:{ticks}")).unwrap();
        let found = read(&home).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].provider_session_id, "open");
        assert_eq!((found[0].live.state, found[0].live.pid), (LiveState::Open, Some(pid)));
        assert!(found[0].live.what.is_some());
    }

    #[test]
    fn state_is_beside_the_settings_wherever_transcripts_are() {
        let folder = |home: Option<&str>, runtime: Option<&str>| {
            let values = [(HOME, home), (RUNTIME, runtime)];
            let env = values.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
            folder(&Home { path: "/p".into(), env: env.into() })
        };
        assert_eq!(folder(None, None), Some("/p/sessions".into()));
        assert_eq!(folder(Some("/q"), Some("/p")), Some("/q/sessions".into()));
        assert_eq!(folder(None, Some("/p")), None);
    }
}
