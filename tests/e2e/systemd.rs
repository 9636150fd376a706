//! The daemon as a unit of a real `systemd --user`: started by its socket, stopped, without its
//! name, beside a daemon that was started by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sessd_tests::systemd::UserManager;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;

/// A user who has typed `sessctl daemon install`.
pub(crate) fn installed() -> Option<UserManager> {
    let manager = UserManager::boot(BINARIES)?;
    let output = manager.sessctl(&["daemon", "install"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    Some(manager)
}

#[test]
fn the_first_call_starts_the_service_which_serves_on_systemds_socket() {
    let Some(manager) = installed() else { return };
    assert_eq!(manager.property("sessd.socket", "ActiveState"), "active");
    assert_eq!(manager.main_pid(), None, "it runs before anybody has called");
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&manager.socket()), 0o600);
    assert_eq!(mode(manager.socket().parent().unwrap()), 0o700);

    assert_eq!(manager.sessctl(&["list"]).status, 0);
    let pid = manager.main_pid().expect("the service runs");
    assert_eq!(manager.json(&["status"])["pid"], pid);
    assert_eq!(manager.json(&["daemon", "start"])["pid"], pid, "another one is named");
    assert!(manager.sessctl(&["status"]).stdout.contains("run by\tsystemd\n"));
    assert_eq!(manager.property("sessd.service", "StatusText"), "serving");
    let sent = manager.sessctl(&["send", "--new", "echo", "hello"]);
    assert_eq!(sent.status, 0, "{}", sent.stderr);
}
