//! Variables that travel with a call. They may hold secrets, so they are never printed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a service manager tells the process that it starts, and that one only. `JOURNAL_STREAM`
/// says that standard error is the journal, which that of a child of ours never is.
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

/// True for a variable that is meant for the process of a unit, which its children, and what is
/// started in its place, would misunderstand.
#[must_use]
pub fn is_supervisors(name: &str) -> bool {
    SUPERVISORS.contains(&name)
}

/// Variables by name. `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// All variables of this process whose name and value are UTF-8.
    #[must_use]
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// The value of a variable; an empty one counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Only these variables, as far as they are set.
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
    fn a_variable_of_the_users_that_begins_like_a_supervisors_is_kept() {
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
