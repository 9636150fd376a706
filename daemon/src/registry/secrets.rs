//! Values of secret variables, hidden wherever a provider or a tool server repeats them: what
//! they say is written down. Knows no provider.

use std::cmp::Reverse;

use sessd_proto::{Environment, LaunchPlan};

use crate::providers::{Launch, McpServer};

/// What makes a value a secret, in the name of its variable, header or parameter.
const NAMES: [&str; 8] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "HEADERS", "AUTHORIZATION", "COOKIE"];

/// What makes it the name of a file, which may be known.
const PLACES: [&str; 4] = ["FILE", "PATH", "DIR", "CREDENTIAL"];

/// A shorter value is no secret worth hiding, and may be a part of any text, in bytes.
const LENGTH_MIN: usize = 12;

/// The same of a header, where nothing but a complaint about it is read.
const HEADER_LENGTH_MIN: usize = 6;

/// What stands in its place.
const HIDDEN: &str = "***";

/// The values that a process was given and nobody else is to read, longest first: one may begin
/// as another does. One that comes in two pieces is not seen.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    fn new(mut secrets: Vec<String>) -> Self {
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
        let given = plan.env.iter().filter_map(|(name, value)| Some((&**name, value.as_deref()?)));
        let given = given.chain(pairs(base)).chain(launch.mcp_servers.values().flat_map(named));
        Self::new(given.flat_map(|(name, value)| secrets_in(name, value)).collect())
    }

    /// Those of a tool server that is asked by somebody with these variables, for what it says of
    /// why it answers nothing: there, all of its headers are, and whatever may be a key in its
    /// address.
    pub(super) fn of_server(server: &McpServer, base: &Environment) -> Self {
        let given = pairs(base).chain(named(server));
        let mut secrets: Vec<_> = given.flat_map(|(name, value)| secrets_in(name, value)).collect();
        if let McpServer::Http { url, headers } = server {
            let values = headers.0.values().flat_map(|value| with_and_without_scheme(value));
            secrets.extend(values.filter(|value| value.len() >= HEADER_LENGTH_MIN));
            let parts = url.split(['/', '?', '&', '=', ':', '@']).skip(1);
            let parts = parts.filter(|part| part.len() >= LENGTH_MIN && *part != host(url));
            secrets.extend(parts.map(str::to_owned));
        }
        Self::new(secrets)
    }

    /// The same text without them.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }
}

fn pairs(variables: &Environment) -> impl Iterator<Item = (&str, &str)> {
    variables.0.iter().map(|(name, value)| (&**name, &**value))
}

/// What a tool server is given under a name: variables, headers, and parts of its address.
fn named(server: &McpServer) -> Vec<(&str, &str)> {
    let (url, headers) = match server {
        McpServer::Stdio { env, .. } => return pairs(env).collect(),
        McpServer::Http { url, headers } => (url, headers),
    };
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let user = address.split('/').nth(2).and_then(|host| host.rsplit_once('@'));
    let password = user.and_then(|(user, _)| user.split_once(':')).map(|(_, it)| ("PASSWORD", it));
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs(headers).chain(parameters).chain(password).collect()
}

/// The host of an address.
fn host(url: &str) -> &str {
    let host = url.split('/').nth(2).unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.split(':').next().unwrap_or_default()
}

/// What nobody else is to read of a value, judged by its name.
fn secrets_in(name: &str, value: &str) -> Vec<String> {
    let name = name.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if !has(&NAMES) || value.starts_with('/') && has(&PLACES) {
        return Vec::new();
    }
    let mut secrets = match name.contains("HEADERS") {
        true => value.lines().flat_map(with_and_without_scheme).collect(),
        false => with_and_without_scheme(value),
    };
    secrets.retain(|secret| secret.len() >= LENGTH_MIN);
    secrets
}

/// A value, and what of it comes after the name of a header and of a scheme.
fn with_and_without_scheme(value: &str) -> Vec<String> {
    let value = value.split_once(": ").map_or(value, |(_, value)| value);
    let bare = value.split_once(' ').map(|(_, bare)| bare).filter(|bare| !bare.contains(' '));
    [Some(value), bare].into_iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Environment(variables.iter().map(owned).collect())
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let base = environment(&[
            ("SOME_API_KEY", "sk-0123456789"),
            ("LONGER_KEY", "sk-0123456789-abc"),
            ("SHORT_KEY", "sk-1"),
            ("SOME_SECRET", "/base64/base64"),
            ("PEM_KEY", "BEGIN\nsk-98765\nEND"),
            ("SOME_CREDENTIALS", "/home/somebody"),
            ("ALL_HEADERS", "X-One: one\nAuthorization: Bearer sk-5555555555"),
        ]);
        let server = McpServer::Http {
            url: "https://me:passpasspass@a.example/documentation?api_key=sk-777777777".to_owned(),
            headers: environment(&[("X-Role", "assistant-of-all"), ("X-Token", "tokentokentoken")]),
        };
        let mcp_servers = [("one".to_owned(), server)].into();
        let launch = Launch { mcp_servers, ..Launch::default() };
        let secrets = Secrets::of_start(&LaunchPlan::default(), &base, &launch);
        for (said, shown) in [
            ("the key sk-0123456789 (sk-0123456789-abc)", "the key *** (***)"),
            ("/base64/base64 of /home/somebody is not sk-1", "*** of /home/somebody is not sk-1"),
            (r#"{"pem":"BEGIN\nsk-98765\nEND"}"#, r#"{"pem":"***"}"#),
            ("one, sk-5555555555", "one, ***"),
            ("passpasspass, sk-777777777, tokentokentoken", "***, ***, ***"),
            ("the documentation of assistant-of-all", "the documentation of assistant-of-all"),
        ] {
            assert_eq!(secrets.hide(said.to_owned()), shown);
        }
    }

    #[test]
    fn a_complaint_of_a_server_repeats_nothing_that_it_was_sent() {
        let server = McpServer::Http {
            url: "https://somebody:0123456789ab@example.example/sk-987654321/mcp?k=sk-555555555"
                .to_owned(),
            headers: environment(&[("X-Who", "Bearer sk-0123"), ("X-Team", "red")]),
        };
        let said = "no Bearer sk-0123, sk-0123 at /sk-987654321/mcp?k=sk-555555555 of red \
                    example.example for 0123456789ab";
        assert_eq!(
            Secrets::of_server(&server, &Environment::default()).hide(said.to_owned()),
            "no ***, *** at /***/mcp?k=*** of red example.example for ***"
        );
    }
}
