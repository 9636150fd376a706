//! Opening files that others own. A path in a home or in a project may turn out to be a pipe or a
//! device: those are refused, and opening one never waits for a writer. Knows no provider.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Longer settings are cut here, in bytes.
const SETTINGS_BYTES_MAX: u64 = 1024 * 1024;

/// Opens a regular file and returns it with its metadata.
///
/// # Errors
/// Fails if the file cannot be opened, and for anything but a regular file.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let no_wait = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(no_wait).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file, metadata))
}

/// Larger files are not read whole, in bytes: the CLIs keep some kilobytes there.
const SMALL_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Returns the bytes of a file that the CLI reads whole.
///
/// # Errors
/// Fails if the file cannot be opened or read, if it is too large, and for anything but a regular
/// file.
pub(super) fn small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.0.take(SMALL_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SMALL_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Returns the first MiB of a small file, such as settings, which may belong to a project that is
/// not trusted.
/// `None` if it cannot be read as text.
pub(super) fn settings(path: &Path) -> Option<String> {
    let mut text = String::new();
    let (file, _) = open(path).ok()?;
    file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}
