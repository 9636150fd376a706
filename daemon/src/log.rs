//! The daemon's log: lines on standard error, which the background mode sends to a file.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs our own messages to standard error. Libraries are left out: tarpc logs every call.
pub(crate) fn to_stderr() {
    let ours = Targets::new().with_target("sessd", LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    // A second subscriber in one process is refused; then somebody else's is in place.
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}
