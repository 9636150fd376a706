//! Values of secret variables, hidden wherever a provider or a tool server repeats them: what
//! they say is written down. Knows no provider.

use std::cmp::Reverse;

use sessd_proto::{Environment, LaunchPlan};

use crate::providers::{Launch, McpServer};

/// What makes a variable's value a secret, in its name.
const NAMES: [&str; 6] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS"];

/// A shorter value is no secret worth hiding, and may be a part of any text, in bytes.
const LENGTH_MIN: usize = 12;

/// The same of a header, of which most are secrets.
const HEADER_LENGTH_MIN: usize = 6;

/// What stands in its place.
const HIDDEN: &str = "***";

/// The values that a process was given and nobody else is to read, longest first: one may begin
/// as another does. One that comes in two pieces is not seen.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a process with these variables and these tool servers.
    pub(super) fn of<'a>(
        variables: impl Iterator<Item = (&'a String, &'a String)>,
        servers: impl Iterator<Item = &'a McpServer>,
    ) -> Self {
        let mut secrets: Vec<String> = secret_of(variables).collect();
        servers.for_each(|server| secrets.extend(of_server(server)));
        // As they stand in a line of JSON.
        let spelled = secrets.iter().map(|secret| serde_json::Value::from(&**secret).to_string());
        let spelled: Vec<String> = spelled.map(|it| it.trim_matches('"').to_owned()).collect();
        secrets.extend(spelled);
        secrets.sort_unstable_by(|a, b| (Reverse(a.len()), a).cmp(&(Reverse(b.len()), b)));
        secrets.dedup();
        Self(secrets)
    }

    /// Those of a process that is started for a launch.
    pub(super) fn of_start(plan: &LaunchPlan, base: &Environment, launch: &Launch) -> Self {
        let given = plan.env.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        Self::of(base.0.iter().chain(given), launch.mcp_servers.values())
    }

    /// The same text without them.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }
}

/// Variables by their names; where a file is may be known.
fn secret_of<'a>(
    variables: impl Iterator<Item = (&'a String, &'a String)>,
) -> impl Iterator<Item = String> {
    let is_secret = |name: &str| NAMES.iter().any(|part| name.contains(part));
    let secret = variables.filter(move |(name, value)| is_secret(name) && !value.starts_with('/'));
    let parts = secret.flat_map(|(name, value)| match name.contains("HEADERS") {
        true => value.lines().flat_map(of_header).collect(),
        false => vec![value.clone()],
    });
    parts.filter(|secret| secret.len() >= LENGTH_MIN)
}

/// A header's value, with and without the scheme before it.
fn of_header(header: &str) -> Vec<String> {
    let value = header.split_once(": ").map_or(header, |(_, value)| value);
    [Some(value), value.rsplit(' ').next()].into_iter().flatten().map(str::to_owned).collect()
}

/// Those that a tool server is given: variables by their names, all headers, with and without
/// the scheme before them, and the parts of an address that may be keys.
fn of_server(server: &McpServer) -> Vec<String> {
    let (url, headers) = match server {
        McpServer::Stdio { env, .. } => return secret_of(env.0.iter()).collect(),
        McpServer::Http { url, headers } => (url, headers),
    };
    let values = headers.0.values().flat_map(|value| of_header(value));
    let values = values.filter(|value| value.len() >= HEADER_LENGTH_MIN);
    let address = url.split_once("://").map_or(&**url, |(_, address)| address);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let user = host.rsplit_once('@').map_or("", |(user, _)| user);
    let parts = user.split(':').chain(path.split(['/', '?', '&', '=']));
    let parts = parts.filter(|part| part.len() >= LENGTH_MIN).map(str::to_owned);
    values.chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let variables = [
            ("SOME_API_KEY", "sk-0123456789"),
            ("LONGER_KEY", "sk-0123456789-abc"),
            ("SHORT_KEY", "sk-1"),
            ("PEM_KEY", "BEGIN\nsk-98765\nEND"),
            ("CREDENTIALS_FILE", "/home/somebody"),
            ("ALL_HEADERS", "X-One: one\nAuthorization: Bearer sk-5555555555"),
            ("SOME_HOME", "/home/somebody"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = variables.iter().map(|(name, value)| (name, value));
        let secrets = Secrets::of(variables, iter::empty());
        for (said, shown) in [
            ("the key sk-0123456789 (sk-0123456789-abc)", "the key *** (***)"),
            ("of /home/somebody is not sk-1", "of /home/somebody is not sk-1"),
            (r#"{"pem":"BEGIN\nsk-98765\nEND"}"#, r#"{"pem":"***"}"#),
            ("one, sk-5555555555", "one, ***"),
        ] {
            assert_eq!(secrets.hide(said.to_owned()), shown);
        }
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
            Secrets::of(iter::empty(), iter::once(&server)).hide(said.to_owned()),
            "no ***, *** at /***/mcp?key=*** of red example.example for ***"
        );
    }
}
