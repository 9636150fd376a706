//! Directories as users name them on the command line. Knows no command.

use std::io;
use std::path::Path;

use sessd_proto::{Fault, FaultCode};

/// Returns the absolute path of a directory, which need not exist.
pub(crate) fn absolute(dir: &str) -> Result<String, Fault> {
    let path = std::path::absolute(dir).map_err(|error| {
        Fault::new(FaultCode::Usage, format!("`{dir}` is not a directory: {error}"))
    })?;
    Ok(path.to_string_lossy().into_owned())
}

/// Returns the real path of a directory that exists.
pub(crate) fn real_path(dir: &str) -> Result<String, Fault> {
    let no_directory = |error: io::Error| {
        Fault::new(FaultCode::Usage, format!("--cwd: `{dir}`: {error}"))
            .hint("pass an existing directory")
    };
    let path = Path::new(dir).canonicalize().map_err(no_directory)?;
    if path.is_dir() {
        Ok(path.to_string_lossy().into_owned())
    } else {
        Err(no_directory(io::ErrorKind::NotADirectory.into()))
    }
}
