//! Environment variables that are sent with a call. They may hold secrets, so `Debug` omits values.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Variables that a service manager sets for the process of a unit only. `JOURNAL_STREAM` among
/// them says that stderr is the journal, which is never true for a child process of ours.
const SUPERVISORS: &[&str] = &[
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "MANAGERPID",
    "MANAGERPIDFDID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "NOTIFY_SOCKET",
    "SYSTEMD_EXEC_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// True for a variable that a service manager sets for the process of a unit, and that processes
/// started by it must not inherit.
#[must_use]
pub fn is_supervisors(name: &str) -> bool {
    SUPERVISORS.contains(&name)
}

/// Environment variables by name. `Debug` shows only the names.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// Returns the variables of this process whose name and value are UTF-8.
    #[must_use]
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// Returns the value of a variable, or `None` if it is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns only the variables with these names, if they are set.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let pair = |name: &str| Some((name.to_owned(), self.0.get(name)?.clone()));
        Self(names.into_iter().filter_map(pair).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_variables_with_similar_names_are_kept() {
        for own in ["LISTEN_ADDR", "WATCHDOG_DIR", "INVOCATION_ID_2", "PATH"] {
            assert!(!is_supervisors(own), "{own}");
        }
        for supervisors in ["LISTEN_FDS", "WATCHDOG_USEC", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"] {
            assert!(is_supervisors(supervisors), "{supervisors}");
        }
    }

    #[test]
    fn debug_never_shows_a_value() {
        let secret = Environment([("API_KEY".to_owned(), "hunter2".to_owned())].into());
        assert_eq!(format!("{secret:?}"), "{\"API_KEY\"}");
    }
}
