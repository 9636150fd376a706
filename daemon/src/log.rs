//! The daemon's log. In the foreground: lines on standard error, with a time, or with a priority
//! if that is the journal. In the background: a private file that is rotated by size.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

/// Size at which the log file is rotated, in bytes.
const FILE_BYTES_MAX: u64 = 5 * 1024 * 1024;

/// Log files kept, including the current one.
const FILES_MAX: usize = 5;

/// Logs to standard error, in the journal's form if it is the journal.
pub(crate) fn to_stderr(is_journal: bool) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    if is_journal {
        log(lines.event_format(Journal));
    } else {
        log(lines.with_target(false));
    }
}

/// Logs to a file, or to standard error if it cannot be opened.
pub(crate) fn to_file(path: &Path) {
    match LogFile::open(path) {
        Ok(file) => {
            let lines = tracing_subscriber::fmt::layer().with_writer(Mutex::new(file));
            log(lines.with_ansi(false).with_target(false));
        }
        Err(_) => to_stderr(false),
    }
}

/// Logs our own messages only, since tarpc logs every call.
fn log(lines: impl Layer<Registry> + Send + Sync) {
    let ours = Targets::new().with_target("sessd", LevelFilter::INFO);
    // Fails if a subscriber is already set, as in tests that run in one process.
    let _ = tracing_subscriber::registry().with(lines.with_filter(ours)).try_init();
}

/// Opens the log to append to it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Formats lines for the journal: with a priority, without a time.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(line, "<{priority}>")?;
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// The current log file. Panics are written to standard error, so that is redirected to the same
/// file after each rotation.
struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Renames every file to the next older name and opens a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let name = |age: usize| match age {
            0 => self.path.clone(),
            age => self.path.with_extension(format!("log.{age}")),
        };
        for age in (1..FILES_MAX).rev() {
            match fs::rename(name(age - 1), name(age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        *self = Self::open(&self.path)?;
        rustix::stdio::dup2_stdout(&self.file)?;
        rustix::stdio::dup2_stderr(&self.file)?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.length > FILE_BYTES_MAX {
            // If it cannot be rotated, keep logging to the same file.
            let _ = self.rotate();
        }
        let written = self.file.write(line)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
