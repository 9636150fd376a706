//! Variables that travel with a call. They may hold secrets, so they are never printed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Beginnings of what a service manager tells the process that it starts, and that one only.
const SUPERVISORS: &[&str] = &["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "INVOCATION_ID"];

/// True for a variable that is meant for the process of a unit, which its children, and what is
/// started in its place, would misunderstand.
#[must_use]
pub fn is_supervisors(name: &str) -> bool {
    SUPERVISORS.iter().any(|prefix| name.starts_with(prefix))
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
    fn debug_never_shows_a_value() {
        let secret = Environment([("API_KEY".to_owned(), "hunter2".to_owned())].into());
        assert_eq!(format!("{secret:?}"), "{\"API_KEY\"}");
    }
}
