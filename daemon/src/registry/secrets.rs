//! Values of secret variables, hidden wherever a provider or a tool server repeats them: what
//! they say is written down. Knows no provider.

use crate::providers::McpServer;

/// What makes a variable's value a secret, in its name.
const NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS"];

/// A shorter value is no secret worth hiding, and may be a part of any text, in bytes.
const LENGTH_MIN: usize = 12;

/// The same of a header, of which most are secrets.
const HEADER_LENGTH_MIN: usize = 6;

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

    /// Those that a tool server is given: variables by their names, all headers, with and without
    /// the scheme before them, and the parts of an address that may be keys.
    pub(super) fn of_server(server: &McpServer) -> Self {
        let (url, headers) = match server {
            McpServer::Stdio { env, .. } => return Self::of(env.0.iter()),
            McpServer::Http { url, headers } => (url, headers),
        };
        let values =
            headers.0.values().flat_map(|value| [Some(&**value), value.rsplit(' ').next()]);
        let values = values.flatten().filter(|value| value.len() >= HEADER_LENGTH_MIN);
        let address = url.split_once("://").map_or(&**url, |(_, address)| address);
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        let user = host.rsplit_once('@').map_or("", |(user, _)| user);
        let parts = user.split(':').chain(path.split(['/', '?', '&', '=']));
        let parts = parts.filter(|part| part.len() >= LENGTH_MIN);
        Self(values.chain(parts).map(str::to_owned).collect())
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
    use sessd_proto::Environment;

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

    #[test]
    fn what_a_server_is_given_is_hidden() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [header("Authorization", "Bearer sk-0123"), header("X-Team", "red")];
        let server = McpServer::Http {
            url: "https://somebody:0123456789ab@example.example/sk-987654321/mcp?key=sk-555555555"
                .to_owned(),
            headers: Environment(headers.into()),
        };
        let said = "no Bearer sk-0123, sk-0123 at /sk-987654321/mcp?key=sk-555555555 of red \
                    example.example for 0123456789ab";
        assert_eq!(
            Secrets::of_server(&server).hide(said.to_owned()),
            "no ***, *** at /***/mcp?key=*** of red example.example for ***"
        );
    }
}
