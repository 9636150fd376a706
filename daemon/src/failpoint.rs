//! Named places in operations of several steps, at which a test can end the process as a crash
//! would. Without the feature `failpoints` they are nothing.

/// Ends the process if `SESSD_FAILPOINT` names this place.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) {
    if std::env::var_os("SESSD_FAILPOINT").is_some_and(|asked| asked == name) {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_: &str) {}
