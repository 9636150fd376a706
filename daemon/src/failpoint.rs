//! Places at which a test can kill the process, make it hang or panic, or hold two tasks until
//! both have come. Without the feature `failpoints` they do nothing.

/// Kills the process if `SESSD_FAILPOINT` names this place.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) {
    if std::env::var_os("SESSD_FAILPOINT").is_some_and(|asked| asked == name) {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn reach(_: &str) {}

/// Never returns if the file named by `SESSD_HANG` exists. The file is removed first, so that the
/// next process does not hang.
#[cfg(feature = "failpoints")]
pub(crate) fn hang() {
    if std::env::var_os("SESSD_HANG").is_some_and(|file| std::fs::remove_file(file).is_ok()) {
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hang() {}

/// Panics if the file named by `SESSD_PANIC` exists, which is removed first.
#[cfg(feature = "failpoints")]
pub(crate) fn trip() {
    if std::env::var_os("SESSD_PANIC").is_some_and(|file| std::fs::remove_file(file).is_ok()) {
        std::panic::panic_any("asked for");
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn trip() {}

/// Waits until a second task has reached this place, if `SESSD_MEET` names it.
#[cfg(feature = "failpoints")]
pub(crate) async fn meet(name: &str) {
    use std::sync::LazyLock;
    static TWO: LazyLock<tokio::sync::Barrier> = LazyLock::new(|| tokio::sync::Barrier::new(2));
    if std::env::var_os("SESSD_MEET").is_some_and(|asked| asked == name) {
        TWO.wait().await;
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn meet(_: &str) {}
