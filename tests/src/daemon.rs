//! The daemon of a sandbox: asks it in JSON, connects without the client, kills it, waits for it.
//! Names no provider but the built-in one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sessd_proto::client::Client;

use crate::sandbox::{Sandbox, traces};
use crate::wait::{DEADLINE, wait_until};
use crate::watch::Watch;

impl Sandbox {
    /// Runs the client with `--json` and returns its output. Panics with its stderr if it fails.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.sessctl(&[&["--json"], arguments].concat());
        assert_eq!(output.status, 0, "{arguments:?}: {}", output.stderr);
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", output.stdout))
    }

    /// Starts a session of the built-in agent in the home directory; returns its id.
    #[track_caller]
    pub fn new_session(&self, prompt: &str) -> String {
        let sent = self.json(&["send", "--new", "echo", prompt]);
        sent["session"]["id"].as_str().expect("an id").to_owned()
    }

    /// Returns the ids of all sessions in the order of the list.
    #[track_caller]
    pub fn ids(&self) -> Vec<String> {
        let listed = self.json(&["list", "--all"]);
        let id = |session: &Value| session["id"].as_str().expect("an id").to_owned();
        listed["sessions"].as_array().expect("sessions").iter().map(id).collect()
    }

    /// Returns the path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("sessd/sessd.sock")
    }

    /// Connects the test's own process to the daemon.
    #[track_caller]
    pub fn client(&self) -> Client {
        let socket = self.socket();
        Client::connect(&socket).unwrap_or_else(|error| panic!("{socket:?}: {error:?}"))
    }

    /// Waits until the daemon has completed its start. It serves a list long before that: missed
    /// jobs, and copying the log back into the registry, come later.
    #[track_caller]
    pub fn wait_until_started(&self) {
        self.json(&["status"]);
        wait_until("the end of the start", DEADLINE, || self.is_started().then_some(()));
        // The store counts in the thread that copies the log back, so this waits for the copy.
        self.json(&["status"]);
    }

    /// True if the watch is set up, which is the last step of a start; if it is off or cannot be
    /// seen, true if the last job of a first start has finished.
    fn is_started(&self) -> bool {
        let watched = !self.has_env("SESSD_DISCOVERY_WATCH", "false");
        match self.watch().filter(|_| watched) {
            Some(watch) => watch.is_ready,
            None => {
                let jobs = self.json(&["jobs"]);
                let mut jobs = jobs["jobs"].as_array().expect("jobs").iter();
                let heartbeat = jobs.find(|job| job["name"] == "heartbeat").expect("a job");
                heartbeat["last"]["finished"].is_string()
            }
        }
    }

    /// Waits until the daemon watches a directory.
    #[track_caller]
    pub fn wait_until_watched(&self, directory: &Path) {
        let inode = fs::metadata(directory).expect("a directory").ino();
        wait_until("a watch on a directory", DEADLINE, || {
            self.watch().is_none_or(|watch| watch.inodes.contains(&inode)).then_some(())
        });
    }

    /// Returns the state of the daemon's watch; `None` if its descriptors are closed to us.
    fn watch(&self) -> Option<Watch> {
        Watch::of(self.daemon_pid()?)
    }

    /// Kills the daemon without warning and waits until it is gone.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let pid = self.daemon_pid().expect("a daemon to kill");
        let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL);
        // A thread that is still writing keeps the lock and the files open for a while.
        wait_until("the end of the daemon", DEADLINE, || {
            (!is_running(pid) && self.holder() != Some(pid)).then_some(())
        });
    }

    /// Returns the daemons of this sandbox, found in `/proc` and not by asking them.
    pub fn daemons(&self) -> Vec<i32> {
        // Every environment of the sandbox has this directory on its PATH.
        let marker = self.home().with_file_name("bin");
        let has = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
        let is_daemon = |pid: &i32| {
            let traces = traces(*pid);
            is_running(*pid)
                && has(&traces, marker.as_os_str().as_bytes())
                && has(&traces, b"\0--daemonize\0")
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found: Vec<i32> = pids.filter(is_daemon).collect();
        // Between its fork and its exec a child of a daemon looks as the daemon does.
        let is_below = |pid: i32, other: i32| {
            let [pid, other] = [pid, other].map(|it| u32::try_from(it).unwrap_or_default());
            pid != other && sessd::process::is_below(pid, other)
        };
        let is_child = |pid: i32| found.iter().any(|other| is_below(pid, *other));
        found.iter().copied().filter(|pid| !is_child(*pid)).collect()
    }

    /// Makes the built-in agent wait at a gate before it answers. Call this before the daemon
    /// starts.
    pub fn gate(&self) -> Gate {
        let path = self.home().join("gate");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a new pipe");
        let script = "#!/bin/sh\nread -r pass <~/gate && exec \"$SESSD_BIN\" \"$@\"\n";
        let program = self.script("gated-echo", script);
        let config = format!("[programs]\necho = {:?}\n", program.display().to_string());
        self.write(".config/sessd/config.toml", config);
        // Open at both ends, so that passes may be written before an agent waits for one.
        let pipe = File::options().read(true).write(true).open(path).expect("our own pipe");
        Gate { pipe }
    }
}

/// A pipe that the built-in agent waits at.
pub struct Gate {
    pipe: File,
}

impl Gate {
    /// Lets this many more agents through.
    pub fn open(&self, count: usize) {
        (&self.pipe).write_all(&vec![b'\n'; count]).expect("room in a pipe");
    }
}

/// True if the process runs; a zombie does not.
pub fn is_running(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| sessd::process::start_ticks(pid).is_some())
}
