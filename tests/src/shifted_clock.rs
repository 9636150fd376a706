//! Clocks that a test can set: the wall clock by a preloaded library, the uptime by a time
//! namespace. Only the programs in the sandbox see them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::Sandbox;
use crate::{report, tools};

const SOURCE: &str = include_str!("shifted_clock.c");

/// The clocks of a sandbox.
pub struct ShiftedClock {
    wall: PathBuf,
    uptime: PathBuf,
}

impl ShiftedClock {
    /// Gives the sandbox clocks of its own. Returns `None`, reported as a skip, if the machine does
    /// not allow time namespaces or has no C compiler.
    pub fn of(sandbox: &mut Sandbox) -> Option<Self> {
        if !tools::require_root("a time namespace") {
            return None;
        }
        let compiler = tools::require("cc")?;
        let allowed = Command::new("unshare").args(["--time", "--boottime=1", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            report::not_permitted("a clock of our own needs a time namespace");
            return None;
        }
        let source = sandbox.write("clock/shifted.c", SOURCE);
        let library = source.with_extension("so");
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .status();
        assert!(built.expect("a C compiler").success());
        let clock = Self {
            wall: sandbox.write("clock/wall_ms", "0"),
            uptime: sandbox.write("clock/uptime_s", "0"),
        };
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD='{}' SHIFTED_CLOCK='{}'\n\
             exec unshare --time --boottime=\"$(cat '{}')\" '{}' \"$@\"\n",
            library.display(),
            clock.wall.display(),
            clock.uptime.display(),
            sandbox.sessd(),
        );
        let daemon = sandbox.script("clock/sessd", script);
        sandbox.set_env("SESSD_BIN", daemon.to_str().expect("a UTF-8 path"));
        Some(clock)
    }

    /// Sets the wall clock of running and later programs to this distance from the true one.
    pub fn set_wall(&self, shift_ms: i64) {
        let partial = self.wall.with_extension("partial");
        fs::write(&partial, shift_ms.to_string()).expect("our own file");
        fs::rename(partial, &self.wall).expect("our own file");
    }

    /// Moves both clocks forward, for daemons that start later.
    pub fn pass(&self, ms: i64) {
        let read = |path: &PathBuf| -> i64 {
            fs::read_to_string(path).expect("our own file").parse().expect("a number")
        };
        self.set_wall(read(&self.wall) + ms);
        fs::write(&self.uptime, (read(&self.uptime) + ms / 1_000).to_string())
            .expect("our own file");
    }
}
