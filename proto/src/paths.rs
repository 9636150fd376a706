//! Paths of the socket, the registry and the configuration, for the daemon and for clients.
//!
//! Takes the environment as an argument and creates no file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Environment, Fault, FaultCode};

/// Maximum length of a Unix socket's path, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The paths of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Path of the socket.
    pub socket: PathBuf,
    /// Directory of the registry, the lock and the log; mode 0700.
    pub state: PathBuf,
    /// Path of the configuration file, which may be missing.
    pub config: PathBuf,
}

impl Paths {
    /// Determines the paths from the `--socket` option and the environment.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if neither HOME nor the XDG variables are set, a path is
    /// relative, or the socket's path is longer than 107 bytes.
    pub fn find(socket: Option<&Path>, env: &Environment) -> Result<Self, Fault> {
        let state = base(env, "XDG_STATE_HOME", ".local/state")?.join("sessd");
        let config = match env.get("SESSD_CONFIG") {
            Some(file) if Path::new(file).is_absolute() => PathBuf::from(file),
            Some(file) => {
                let what = format!("SESSD_CONFIG is not absolute: {file}");
                return Err(Fault::new(FaultCode::Environment, what)
                    .hint("set SESSD_CONFIG to an absolute path"));
            }
            None => base(env, "XDG_CONFIG_HOME", ".config")?.join("sessd/config.toml"),
        };
        let socket = match socket.map(Path::to_owned).or(env.get("SESSD_SOCKET").map(Into::into)) {
            Some(path) => path,
            None => run_dir(env, &state).join("sessd.sock"),
        };
        check_socket(&socket)?;
        Ok(Self { socket, state, config })
    }

    /// Returns the path of the registry's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.join("sessd.db")
    }

    /// Returns the path of the file that the daemon keeps locked; it holds its pid and socket.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("sessd.lock")
    }

    /// Returns the path of the daemon's log, used unless systemd collects it.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("sessd.log")
    }
}

/// Returns the default folder of the socket.
fn run_dir(env: &Environment, state: &Path) -> PathBuf {
    if let Some(dir) = env.get("XDG_RUNTIME_DIR").map(Path::new).filter(|dir| dir.is_absolute()) {
        return dir.join("sessd");
    }
    // ssh, cron and sudo often drop the variable.
    let uid = rustix::process::getuid().as_raw();
    let dir = PathBuf::from(format!("/run/user/{uid}"));
    if is_private(&dir, uid) { dir.join("sessd") } else { state.join("run") }
}

/// True for a directory, not a link to one, that belongs to the user and has no access for others.
#[must_use]
pub fn is_private(dir: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0)
}

/// Checks that the folder of the socket is private.
///
/// # Errors
/// [`FaultCode::Environment`] if the folder is a link, belongs to another user, or is accessible
/// to others. A missing folder is not an error.
pub fn check_folder(dir: &Path) -> Result<(), Fault> {
    check_ours(dir, "the socket's folder", "choose another socket with --socket or SESSD_SOCKET")
}

/// Checks that the folder of the registry is private; until then nothing in it may be used.
///
/// # Errors
/// The same as [`check_folder`].
pub fn check_state(dir: &Path) -> Result<(), Fault> {
    check_ours(dir, "the registry's folder", "set XDG_STATE_HOME to a directory that you own")
}

fn check_ours(dir: &Path, name: &str, elsewhere: &str) -> Result<(), Fault> {
    let uid = rustix::process::getuid().as_raw();
    let Ok(meta) = std::fs::symlink_metadata(dir) else { return Ok(()) };
    let shown = dir.display();
    let fault = |what: &str, hint: &str| {
        Err(Fault::new(FaultCode::Environment, what.to_owned()).hint(hint))
    };
    if meta.is_symlink() {
        fault(
            &format!("{name} {shown} is a symbolic link"),
            &format!("replace it with a directory: `rm {shown} && mkdir -m 700 {shown}`"),
        )
    } else if !meta.is_dir() {
        fault(&format!("{name} {shown} is not a directory"), elsewhere)
    } else if meta.uid() != uid {
        fault(&format!("{name} {shown} belongs to user {}, not to you", meta.uid()), elsewhere)
    } else if meta.mode() & 0o077 != 0 {
        fault(
            &format!("{name} {shown} is accessible to other users"),
            &format!("make it private: `chmod 700 {shown}`"),
        )
    } else {
        Ok(())
    }
}

fn base(env: &Environment, variable: &str, under_home: &str) -> Result<PathBuf, Fault> {
    // The XDG specification requires relative values to be ignored.
    if let Some(dir) = env.get(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    match env.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(under_home)),
        None => Err(Fault::new(
            FaultCode::Environment,
            format!("neither HOME nor {variable} is set to an absolute path"),
        )
        .hint("set HOME to your home directory")),
    }
}

fn check_socket(socket: &Path) -> Result<(), Fault> {
    let length = socket.as_os_str().len();
    let shown = socket.display();
    let fault = |what: String| {
        let hint = "choose another path with --socket or SESSD_SOCKET";
        Err(Fault::new(FaultCode::Environment, what).hint(hint))
    };
    if length > SOCKET_PATH_BYTES_MAX {
        fault(format!(
            "the socket's path has {length} bytes, the limit is {SOCKET_PATH_BYTES_MAX}: {shown}"
        ))
    } else if !socket.is_absolute() || socket.file_name().is_none() {
        fault(format!("the socket's path is not absolute: {shown}"))
    } else if socket.as_os_str().as_encoded_bytes().contains(&0) {
        fault("the socket's path contains a NUL byte".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn xdg_variables_take_precedence_over_home() {
        let paths = Paths::find(
            None,
            &env(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")]),
        )
        .unwrap();
        assert_eq!(paths.socket, Path::new("/r/sessd/sessd.sock"));
        assert_eq!(paths.database(), Path::new("/s/sessd/sessd.db"));
        assert_eq!(paths.config, Path::new("/h/.config/sessd/config.toml"));
    }

    #[test]
    fn missing_home_is_a_fault_with_a_hint() {
        let fault = Paths::find(None, &env(&[])).unwrap_err();
        assert_eq!(fault.code, FaultCode::Environment);
        assert!(fault.hint.unwrap().contains("set HOME"));
    }

    #[test]
    fn relative_configuration_path_is_a_fault() {
        let env = env(&[("HOME", "/h"), ("SESSD_CONFIG", "config.toml")]);
        let fault = Paths::find(None, &env).unwrap_err();
        assert_eq!(fault.code, FaultCode::Environment);
        assert!(fault.message.contains("SESSD_CONFIG") && fault.hint.is_some());
    }

    #[test]
    fn relative_xdg_values_are_ignored() {
        let paths = Paths::find(None, &env(&[("HOME", "/h"), ("XDG_STATE_HOME", "s")])).unwrap();
        assert_eq!(paths.state, Path::new("/h/.local/state/sessd"));
    }

    #[test]
    fn socket_path_is_limited_to_107_bytes() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        let find = |length| Paths::find(Some(Path::new(&path(length))), &env(&[("HOME", "/h")]));
        assert!(find(107).is_ok());
        assert!(find(108).unwrap_err().message.contains("has 108 bytes"));
    }
}
