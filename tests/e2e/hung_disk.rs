//! Promise: a disk that does not answer holds up nothing but what is on it, and nothing on it is
//! called gone. A pipe without a writer hangs every reader, like a dead network disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode};
use sessd_proto::{FaultCode, LiveState, Session, Status};
use sessd_tests::hung_disk::HungDisk;
use sessd_tests::report::figure;
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};
use uuid::Uuid;

use crate::BINARIES;
use crate::scene::{NEVER, check, fault, run_job, sessions, verdict};

const UNREADABLE: (Status, Option<&str>) = (Status::Unknown, Some("home_unreadable"));

/// Two homes of Claude Code with two sessions each.
struct Homes {
    sandbox: Sandbox,
    hanging: PathBuf,
    well: PathBuf,
}

impl Homes {
    fn new() -> Self {
        let mut sandbox = Sandbox::new(BINARIES);
        sandbox.set_env("SESSD_DISCOVERY_SCHEDULE", NEVER);
        sandbox.set_env("SESSD_DISCOVERY_WATCH", "false");
        sandbox.set_env("SESSD_HEARTBEAT_SCHEDULE", NEVER);
        sandbox.set_env("SESSD_HEARTBEAT_FRESH_S", "0");
        let [hanging, well] = [".claude", "well"].map(|name| sandbox.dir(name));
        sandbox.write(".config/sessd/config.toml", format!("[homes]\nclaude = [{well:?}]\n"));
        let homes = Self { sandbox, hanging, well };
        for home in [&homes.hanging, &homes.hanging, &homes.well, &homes.well] {
            homes.write_session(home);
        }
        homes
    }

    fn write_session(&self, home: &Path) -> PathBuf {
        let record = serde_json::json!({
            "type": "user", "message": {"role": "user", "content": "a question"},
            "timestamp": "2026-11-21T08:00:00.000Z", "cwd": self.sandbox.home(),
        });
        let folder = home.join("projects/folder");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.jsonl", Uuid::new_v4()));
        fs::write(&path, format!("{record}\n")).unwrap();
        path
    }

    /// The sessions of a home.
    fn of(&self, home: &Path) -> Vec<Session> {
        let all = sessions(&self.sandbox, &["list", "--all"]).into_iter();
        all.filter(|session| Path::new(&session.home) == home).collect()
    }
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_hung_home_delays_neither_sweeps_nor_checks_of_others() {
    let homes = Homes::new();
    let sandbox = &homes.sandbox;
    let known = homes.of(&homes.hanging);
    assert_eq!(known.len(), 2);
    let lost = fs::read_dir(homes.hanging.join("projects/folder")).unwrap().flatten().next();
    fs::remove_file(lost.unwrap().path()).unwrap();
    homes.write_session(&homes.well);
    let Some(disk) = HungDisk::mount(&homes.hanging.join("projects")) else { return };

    let started = Instant::now();
    run_job(sandbox, "discovery");
    let waited = started.elapsed();
    assert_eq!(homes.of(&homes.well).len(), 3, "the other home was swept");
    let doctor = sandbox.sessctl(&["doctor"]);
    assert!(doctor.stdout.contains("does not answer"), "{doctor:?}");
    // From now on no call waits for it.
    let started = Instant::now();
    run_job(sandbox, "discovery");
    run_job(sandbox, "heartbeat");
    for session in &known {
        assert_eq!(verdict(&check(sandbox, &session.id)), UNREADABLE);
    }
    // All that together takes less than the one that has waited.
    let took = started.elapsed();
    figure(&format!(
        "a sweep that meets a hung home: {waited:?}; all that comes after it: {took:?}"
    ));
    assert!(took < waited, "{took:?}");
    for session in homes.of(&homes.well) {
        assert_eq!(session.status, Status::Active);
    }

    drop(disk);
    wait_until("the home as it is", DEADLINE, || {
        run_job(sandbox, "discovery");
        let mut found: Vec<_> = homes.of(&homes.hanging).iter().map(|s| s.status).collect();
        found.sort_by_key(|status| status.as_str());
        (found == [Status::Active, Status::Expired]).then_some(())
    });
}

#[test]
fn a_hung_home_delays_neither_lists_nor_the_daemons_end() {
    let homes = Homes::new();
    assert_eq!(homes.of(&homes.hanging).len(), 2);
    fs::create_dir_all(homes.well.join("sessions")).unwrap();
    let Some(_disk) = HungDisk::mount(&homes.hanging.join("projects")) else { return };
    run_job(&homes.sandbox, "discovery");
    for session in homes.of(&homes.hanging) {
        assert_eq!(session.live.state, LiveState::Unknown);
    }
    for session in homes.of(&homes.well) {
        assert_eq!(session.live.state, LiveState::None);
    }
    let stopped = homes.sandbox.sessctl(&["daemon", "stop"]);
    assert_eq!(stopped.status, 0, "{stopped:?}");
}

#[test]
fn check_all_during_a_hung_first_sweep_says_more_may_come() {
    let homes = Homes::new();
    let Some(_disk) = HungDisk::mount(&homes.hanging.join("projects")) else { return };
    let output = homes.sandbox.sessctl(&["check", "--all"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stderr.contains("the first sweep is still running"), "{output:?}");
}

/// A provider's settings may be anything, and are read by every sweep and start.
#[test]
fn a_pipe_in_the_place_of_settings_hangs_nothing() {
    let homes = Homes::new();
    pipe(&homes.hanging.join("settings.json"));
    assert_eq!(homes.of(&homes.hanging).len(), 2);
    let doctor = homes.sandbox.sessctl(&["doctor"]);
    assert!(!doctor.stdout.contains("does not answer"), "{doctor:?}");
}

#[test]
fn a_pipe_is_not_a_transcript() {
    let homes = Homes::new();
    pipe(&homes.hanging.join("projects/folder").join(format!("{}.jsonl", Uuid::new_v4())));
    let there = homes.of(&homes.hanging);
    assert_eq!(there.len(), 2);
    let path = homes.hanging.join("projects/folder");
    let name = |session: &Session| session.provider_session_id.clone().unwrap() + ".jsonl";
    pipe(&path.join(name(&there[0])));
    let reason = Some("transcript_unreadable");
    assert_eq!(verdict(&check(&homes.sandbox, &there[0].id)), (Status::Unknown, reason));
}

#[test]
fn a_program_on_a_hung_disk_delays_no_other_call() {
    let sandbox = Sandbox::new(BINARIES);
    let dir = sandbox.home().join("dead");
    let config = format!("[programs]\nclaude = {:?}\n", dir.join("claude").display().to_string());
    sandbox.write(".config/sessd/config.toml", config);
    assert_eq!(sandbox.sessctl(&["list"]).status, 0);
    let Some(_disk) = HungDisk::mount(&dir) else { return };
    let doctor = thread::scope(|scope| {
        let asking = scope.spawn(|| sandbox.sessctl(&["doctor"]));
        assert_eq!(sandbox.sessctl(&["list"]).status, 0);
        asking.join().unwrap()
    });
    assert_eq!(doctor.status, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("its program is not on the daemon's PATH"), "{doctor:?}");
}

#[test]
fn a_prompt_for_a_hung_directory_is_refused_without_a_turn() {
    let sandbox = Sandbox::new(BINARIES);
    let dir = sandbox.home().join("dead");
    let Some(_disk) = HungDisk::mount(&dir) else { return };
    let config = format!("[agents.there]\nprovider = \"echo\"\ndirectory = {dir:?}\n");
    sandbox.write(".config/sessd/config.toml", config);
    let refused = fault(&sandbox, &["send", "--new", "there", "hello"], 1);
    assert_eq!((refused.code, refused.retryable), (FaultCode::Environment, Some(true)));
    assert!(refused.message.ends_with("dead does not answer"), "{refused:?}");
    assert!(!refused.hint.unwrap().contains("turns"));
    assert_eq!(sandbox.json(&["turns"])["turns"], serde_json::json!([]));
}
