//! Values of secret variables, hidden wherever a provider repeats them: what it says is written
//! down. Knows no provider.

/// What makes a variable's value a secret, in its name.
const NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS"];

/// A shorter value is no secret worth hiding, and may be a part of any text, in bytes.
const LENGTH_MIN: usize = 12;

/// What stands in its place.
const HIDDEN: &str = "***";

/// The values that a process was given and nobody else is to read.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a process with these variables.
    pub(super) fn of<'a>(variables: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let is_secret = |name: &str| NAMES.iter().any(|part| name.contains(part));
        let secret = variables.filter(|(name, value)| is_secret(name) && value.len() >= LENGTH_MIN);
        Self(secret.map(|(_, value)| value.clone()).collect())
    }

    /// The same text without them.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let variables = [
            ("SOME_API_KEY", "sk-0123456789"),
            ("SHORT_KEY", "sk-1"),
            ("SOME_HOME", "/home/somebody"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let secrets = Secrets::of(variables.iter().map(|(name, value)| (name, value)));
        let said = "the key sk-0123456789 (sk-0123456789) of /home/somebody is not sk-1";
        assert_eq!(
            secrets.hide(said.to_owned()),
            "the key *** (***) of /home/somebody is not sk-1"
        );
    }
}
