//! The home that an environment selects, as nearly every CLI chooses it: one variable, else a
//! folder in the user's home directory. Knows no provider.

use std::path::PathBuf;

use sessd_proto::Environment;

use super::Home;

/// Returns the home that `variable` selects, else `default` below the user's home directory.
///
/// - `inside` is the folder that the CLI makes in the directory that `variable` names; it is empty
///   for a CLI that uses that directory itself. With `home(env, "GEMINI_CLI_HOME", ".gemini",
///   ".gemini")`, `GEMINI_CLI_HOME=/x` selects `/x/.gemini`.
/// - `default` is joined to `$HOME` when the variable is not set. An absolute `default` is used
///   as it is.
///
/// `None` if neither variable is set, and for a relative path, which would be another directory
/// for every caller. The environment of the home sets `variable` as the caller had it, or unsets
/// it.
#[must_use]
pub(super) fn home(env: &Environment, variable: &str, inside: &str, default: &str) -> Option<Home> {
    let chosen = env.get(variable).map(str::to_owned);
    let base = PathBuf::from(chosen.as_deref().or_else(|| env.get("HOME"))?);
    let path = base.join(if chosen.is_some() { inside } else { default });
    let path: PathBuf = path.components().collect();
    path.is_absolute().then(|| Home { path, env: [(variable.to_owned(), chosen)].into() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn home_is_selected_by_variable_or_default() {
        let env = |pairs: &[(&str, &str)]| {
            Environment(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let of = |env: &Environment| home(env, "X_HOME", "", ".x");
        let default = of(&env(&[("HOME", "/h"), ("X_HOME", "")])).unwrap();
        assert_eq!(default.path, Path::new("/h/.x"));
        assert_eq!(default.env, [("X_HOME".to_owned(), None)].into());
        let chosen = of(&env(&[("HOME", "/h"), ("X_HOME", "/x/")])).unwrap();
        assert_eq!((chosen.path, chosen.env["X_HOME"].as_deref()), ("/x".into(), Some("/x/")));
        assert_eq!(of(&env(&[("HOME", "/h"), ("X_HOME", "x")])), None);
    }
}
