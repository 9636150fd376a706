//! Named places in operations of several steps, at which a test can end the process as a crash
//! would, one where it can hang, one where it can panic, and one where two can meet. Without the
//! feature `failpoints` they are nothing.

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

/// Never returns if there is a file that `SESSD_HANG` names, which is taken away first: the next
/// process goes on.
#[cfg(feature = "failpoints")]
pub(crate) fn hang() {
    if std::env::var_os("SESSD_HANG").is_some_and(|file| std::fs::remove_file(file).is_ok()) {
        loop {
            std::thread::park();
        }
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hang() {}

/// Panics if there is a file that `SESSD_PANIC` names, which is taken away first.
#[cfg(feature = "failpoints")]
pub(crate) fn trip() {
    if std::env::var_os("SESSD_PANIC").is_some_and(|file| std::fs::remove_file(file).is_ok()) {
        std::panic::panic_any("asked for");
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn trip() {}

/// Waits until a second one has come to this place, if `SESSD_MEET` names it.
#[cfg(feature = "failpoints")]
pub(crate) async fn meet(name: &str) {
    use std::sync::LazyLock;
    static TWO: LazyLock<tokio::sync::Barrier> = LazyLock::new(|| tokio::sync::Barrier::new(2));
    if std::env::var_os("SESSD_MEET").is_some_and(|asked| asked == name) {
        TWO.wait().await;
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) async fn meet(_: &str) {}
