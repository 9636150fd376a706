//! Where the socket, the registry and the configuration are; the only place that knows.
//!
//! The same code runs in the daemon and in every client, on values: the environment comes in
//! as an argument, and nothing here creates a file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Environment, Fault, FaultCode};

/// The longest path a Unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Every path of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The socket.
    pub socket: PathBuf,
    /// The directory of the registry, the lock and the log; 0700.
    pub state: PathBuf,
    /// The configuration file, which need not exist.
    pub config: PathBuf,
}

impl Paths {
    /// Finds the paths of a daemon from a `--socket` option and the environment.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] when there is no home, a path is relative, or the socket's
    /// path is too long for the kernel.
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

    /// The registry's file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.join("sessd.db")
    }

    /// The file whose lock makes the daemon single; it holds the daemon's pid and socket.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("sessd.lock")
    }

    /// The daemon's log, when nobody else collects it.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("sessd.log")
    }
}

/// The folder of the socket when nobody named one.
fn run_dir(env: &Environment, state: &Path) -> PathBuf {
    if let Some(dir) = env.get("XDG_RUNTIME_DIR").map(Path::new).filter(|dir| dir.is_absolute()) {
        return dir.join("sessd");
    }
    // ssh, cron and sudo often lose the variable although the folder is there.
    let uid = rustix::process::getuid().as_raw();
    let dir = PathBuf::from(format!("/run/user/{uid}"));
    if is_private(&dir, uid) { dir.join("sessd") } else { state.join("run") }
}

/// True for a real directory that only this user can enter.
#[must_use]
pub fn is_private(dir: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0)
}

/// Refuses a socket folder that somebody else could have put there.
///
/// # Errors
/// [`FaultCode::Environment`] when the folder is a link, belongs to another user, or lets
/// others in. A missing folder is no error.
pub fn check_folder(dir: &Path) -> Result<(), Fault> {
    check_ours(dir, "the socket's folder", "choose another socket with --socket or SESSD_SOCKET")
}

/// The same for the folder of the registry: nothing in it is believed, and nothing written.
///
/// # Errors
/// Those of [`check_folder`].
pub fn check_state(dir: &Path) -> Result<(), Fault> {
    check_ours(dir, "the registry's folder", "set XDG_STATE_HOME to a directory of yours")
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
            &format!("{name} {shown} is a symbolic link, which is not trusted"),
            &format!("replace it by a directory of yours: `rm {shown}`"),
        )
    } else if !meta.is_dir() {
        fault(&format!("{name} {shown} is not a directory"), elsewhere)
    } else if meta.uid() != uid {
        fault(&format!("{name} {shown} belongs to user {}, not to you", meta.uid()), elsewhere)
    } else if meta.mode() & 0o077 != 0 {
        fault(
            &format!("{name} {shown} is open to other users"),
            &format!("close it: `chmod 700 {shown}`"),
        )
    } else {
        Ok(())
    }
}

fn base(env: &Environment, variable: &str, under_home: &str) -> Result<PathBuf, Fault> {
    // The XDG specification says that relative values are invalid and to be ignored.
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
            "a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes, not {length}: {shown}"
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
    fn xdg_variables_win_over_home() {
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
    fn without_home_the_fault_says_what_to_set() {
        let fault = Paths::find(None, &env(&[])).unwrap_err();
        assert_eq!(fault.code, FaultCode::Environment);
        assert!(fault.hint.unwrap().contains("set HOME"));
    }

    #[test]
    fn a_relative_configuration_is_a_fault() {
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
    fn a_socket_path_of_107_bytes_is_the_longest() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        let find = |length| Paths::find(Some(Path::new(&path(length))), &env(&[("HOME", "/h")]));
        assert!(find(107).is_ok());
        assert!(find(108).unwrap_err().message.contains("not 108"));
    }
}
