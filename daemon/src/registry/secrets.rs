//! Values of secret variables, hidden wherever a provider or a tool server repeats them: what
//! they say is written down. Knows no provider.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;

use sessd_proto::{Environment, LaunchPlan};

use super::addresses::{may_be_name, parts};
use crate::providers::{Launch, McpServer};

/// What makes a value a secret, in the name of its variable, header or parameter.
const NAMES: [&str; 10] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "HEADERS",
    "AUTHORIZATION",
    "COOKIE",
];

/// The same as the last word of a name: elsewhere they are parts of other words, or something
/// about the secret follows, such as its type.
const LAST_WORDS: [&str; 4] = ["AUTH", "PASS", "PAT", "PWD"];

/// A shorter value is no secret worth hiding, and may be a part of any text, in bytes.
pub(super) const LENGTH_MIN: usize = 12;

/// The same of a header, where nothing but a complaint about it is read.
const HEADER_LENGTH_MIN: usize = 6;

/// What stands in its place.
const HIDDEN: &str = "***";

/// The values that a process was given and nobody else is to read, longest first: one may begin
/// as another does.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    fn new(mut secrets: Vec<String>) -> Self {
        // As they stand in a line of JSON.
        let spelled = secrets.iter().map(|secret| serde_json::Value::from(&**secret).to_string());
        let spelled = spelled.map(|it| it[1..it.len() - 1].to_owned()).collect::<Vec<_>>();
        secrets.extend(spelled);
        secrets.sort_unstable_by(|a, b| (Reverse(a.len()), a).cmp(&(Reverse(b.len()), b)));
        secrets.dedup();
        Self(secrets)
    }

    #[cfg(test)]
    pub(super) fn of_values(values: &[&str]) -> Self {
        Self::new(values.iter().map(|value| (*value).to_owned()).collect())
    }

    /// Those of a process that is started for a launch. What is behind a name of the user's own is
    /// one, whatever the name.
    pub(super) fn of_start(
        plan: &LaunchPlan,
        base: &Environment,
        launch: &Launch,
        own: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let own = own.values().flatten().filter_map(|name| Some(("KEY", base.get(name)?)));
        let given = plan.env.iter().filter_map(|(name, value)| Some((&**name, value.as_deref()?)));
        let given = given.chain(inherited(base)).chain(launch.mcp_servers.values().flat_map(named));
        let given = given.chain(own);
        Self::new(given.flat_map(|(name, value)| secrets_in(name, value)).collect())
    }

    /// Those of a tool server that is asked by somebody with these variables, for what it says of
    /// why it answers nothing: there, all of its headers are, and whatever may be a key in its
    /// address.
    pub(super) fn of_server(server: &McpServer, base: &Environment) -> Self {
        let given = inherited(base).chain(named(server));
        let mut secrets: Vec<_> = given.flat_map(|(name, value)| secrets_in(name, value)).collect();
        if let McpServer::Http { url, headers } = server {
            let values = headers.0.values().flat_map(|value| with_and_without_scheme(value));
            secrets.extend(values.filter(|value| value.len() >= HEADER_LENGTH_MIN));
            let parts = parts(url).filter(|part| part.len() >= LENGTH_MIN);
            secrets.extend(parts.map(str::to_owned));
        }
        Self::new(secrets)
    }

    /// How much of a text can be told whatever follows it, in bytes: up to what may be the
    /// beginning of a secret, or to a whole one that this is a part of.
    pub(super) fn settled(&self, text: &str) -> usize {
        let mut end = text.len() - self.begun_at_end(text);
        for secret in &self.0 {
            let across = |at: &usize| (*at..at + secret.len()).contains(&end) && *at < end;
            let found = text.match_indices(&**secret).map(|(at, _)| at).find(across);
            end = found.unwrap_or(end);
        }
        end
    }

    /// How much of a text's end may be the beginning of one, in bytes.
    fn begun_at_end(&self, text: &str) -> usize {
        let begun = |secret: &String| {
            let ends = secret.char_indices().skip(1).map(|(end, _)| end);
            ends.filter(|end| text.ends_with(&secret[..*end])).last().unwrap_or_default()
        };
        self.0.iter().map(begun).max().unwrap_or_default()
    }

    /// The end of a text without them, which may be cut off in the middle of one.
    pub(super) fn hide_cut_off(&self, text: String) -> String {
        let mut text = self.hide(text);
        let begun = self.begun_at_end(&text);
        if begun >= LENGTH_MIN {
            text.replace_range(text.len() - begun.., HIDDEN);
        }
        text
    }

    /// The same text without them.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }
}

/// Where the shell was is no secret.
fn inherited(base: &Environment) -> impl Iterator<Item = (&str, &str)> {
    pairs(base).filter(|(name, _)| *name != "PWD")
}

fn pairs(variables: &Environment) -> impl Iterator<Item = (&str, &str)> {
    variables.0.iter().map(|(name, value)| (&**name, &**value))
}

/// What a tool server is given under a name: variables, headers, and what its address has for
/// the user and as parameters. What else is in the address is a key, unless it may be a name.
fn named(server: &McpServer) -> Vec<(&str, &str)> {
    let (url, headers) = match server {
        McpServer::Stdio { env, .. } => return pairs(env).collect(),
        McpServer::Http { url, headers } => (url, headers),
    };
    let authority = url.split(['/', '?', '#']).nth(2).unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let parameters = url.split(['?', '&', '#']).skip(1).filter_map(|pair| pair.split_once('='));
    let keys = parts(url).filter(|part| !may_be_name(part));
    let keys = keys.chain(user.splitn(2, ':')).map(|key| ("KEY", key));
    pairs(headers).chain(parameters).chain(keys).collect()
}

/// What nobody else is to read of a value, judged by its name. An absolute path with two names or
/// more is no secret, whatever its name; `/a` and relative ones may be.
fn secrets_in(name: &str, value: &str) -> Vec<String> {
    let name = name.to_ascii_uppercase();
    let last = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if last == "PROXY" {
        let (user, _) = value.rsplit_once('@').unwrap_or_default();
        let password = user.rsplit_once(':').map(|(_, password)| password.to_owned());
        return password.into_iter().filter(|it| it.len() >= HEADER_LENGTH_MIN).collect();
    }
    if !NAMES.iter().any(|part| name.contains(part)) && !LAST_WORDS.contains(&last) {
        return Vec::new();
    }
    let mut secrets = match name.contains("HEADERS") {
        true => value.lines().flat_map(header_values).flat_map(with_and_without_scheme).collect(),
        false => with_and_without_scheme(value),
    };
    secrets.retain(|secret| secret.len() >= LENGTH_MIN && !is_path(secret));
    secrets
}

/// True of `/a/b` if there is a `/a`: a key may begin with a slash too. Only the names in `/` are
/// read, as what is further down may be on a disk that does not answer.
fn is_path(value: &str) -> bool {
    let first = value.strip_prefix('/').and_then(|path| path.split_once('/'));
    first.is_some_and(|(first, _)| {
        let mut there = fs::read_dir("/").into_iter().flatten().flatten();
        there.any(|entry| entry.file_name() == first)
    })
}

/// What follows in `name: value`, which may have commas, or each time in `name=value,name=value`,
/// which may also be one value without a name.
fn header_values(line: &str) -> Vec<&str> {
    if let Some((_, value)) = line.split_once(": ") {
        return vec![value];
    }
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(_, value)| value.trim()).chain([line]).collect()
}

/// A value, and what of it comes after the name of a scheme.
fn with_and_without_scheme(value: &str) -> Vec<String> {
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
            ("CORP_VALUE", "corp-0123456789"),
        ]);
        let own = [("codex".to_owned(), vec!["CORP_VALUE".to_owned()])].into();
        let server = McpServer::Http {
            url: "https://me:passpasspass@a.example/documentation?api_key=sk-777777777".to_owned(),
            headers: environment(&[("X-Role", "assistant-of-all"), ("X-Token", "tokentokentoken")]),
        };
        let mcp_servers = [("one".to_owned(), server)].into();
        let launch = Launch { mcp_servers, ..Launch::default() };
        let secrets = Secrets::of_start(&LaunchPlan::default(), &base, &launch, &own);
        for (said, shown) in [
            ("the key sk-0123456789 (sk-0123456789-abc)", "the key *** (***)"),
            ("it is corp-0123456789", "it is ***"),
            ("/base64/base64 of /home/somebody is not sk-1", "*** of /home/somebody is not sk-1"),
            (r#"{"pem":"BEGIN\nsk-98765\nEND"}"#, r#"{"pem":"***"}"#),
            ("one, sk-5555555555", "one, ***"),
            ("passpasspass, sk-777777777, tokentokentoken", "***, ***, ***"),
            ("the documentation of assistant-of-all", "the documentation of assistant-of-all"),
        ] {
            assert_eq!(secrets.hide(said.to_owned()), shown);
        }
    }

    fn of_url(url: &str) -> Secrets {
        let server = McpServer::Http { url: url.to_owned(), headers: Environment::default() };
        let mcp_servers = [("one".to_owned(), server)].into();
        let launch = Launch { mcp_servers, ..Launch::default() };
        Secrets::of_start(&LaunchPlan::default(), &Environment::default(), &launch, &[].into())
    }

    #[test]
    fn a_key_anywhere_in_an_address_is_hidden_and_its_words_are_not() {
        for (url, shown) in [
            ("https://a.example/api/mcp/s/sk0123456789/mcp", "https://a.example/api/mcp/s/***/mcp"),
            ("https://a.example/s/AbCdEfGhIjKl?a=b", "https://a.example/s/***?a=b"),
            ("https://sk-0123456789@a.example", "https://***@a.example"),
            ("https://sk-0123456789:@a.example/mcp", "https://***:@a.example/mcp"),
            ("https://a.example?k=0123456789ab#c", "https://a.example?k=***#c"),
            ("https://mcp2.a.example:80080/mcp", "https://mcp2.a.example:80080/mcp"),
            ("https://a.example/streamable-http/v2", "https://a.example/streamable-http/v2"),
        ] {
            let said = format!("MCP server {url}: 401");
            assert_eq!(of_url(url).hide(said), format!("MCP server {shown}: 401"));
        }
    }

    #[test]
    fn names_in_an_address_stay_readable_and_keys_do_not() {
        for name in [
            "DefinitelyTyped",
            "customer-portal2",
            "sequentialThinking",
            "MicrosoftSQLServer2022",
            "@modelcontextprotocol",
            "server-2025-06-18",
            "n8n-workflows",
            "OpenAI_GraphQL.tools",
        ] {
            let said = format!("mcp__{name}__list in /home/me/{name}");
            assert_eq!(of_url(&format!("https://a.example/{name}/mcp")).hide(said.clone()), said);
        }
        for key in [
            "5f2b9c0de1a4",
            "da39a3ee5e6b4b0d3255bfef95601890",
            "c0ffee00-dead-beef-cafe-0123456789ab",
            "550E8400-E29B-41D4-A716-446655440000",
            "sk-proj-Zx8Qw1Lm0PvTn4",
            "mcp-server-AbCdEfGhIjKl",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "q7Rt_2nVx-Lw9ZbK3s",
            "JBSWY3DPEHPK3PXP",
            "customer-20250618",
            "AbCdEfGh-IjKlMnOp-QrStUvWx",
        ] {
            let url = format!("https://a.example/{key}/mcp");
            assert_eq!(of_url(&url).hide(url), "https://a.example/***/mcp", "{key}");
        }
    }

    #[test]
    fn the_host_of_a_server_is_no_secret_of_it() {
        let url = "https://mcp.example.example?key=sk-987654321";
        let server = McpServer::Http { url: url.to_owned(), headers: Environment::default() };
        let secrets = Secrets::of_server(&server, &Environment::default());
        assert_eq!(secrets.hide(url.to_owned()), "https://mcp.example.example?key=***");
    }

    #[test]
    fn names_tell_secrets_from_what_only_sounds_like_them() {
        let value = "0123456789ab";
        for name in ["X-Auth", "GITLAB_PAT", "DB_PASS", "passwd", "MYSQL_PWD", "A_PASSPHRASE"] {
            assert_eq!(secrets_in(name, value), [value], "{name}");
        }
        for name in
            ["AUTHOR", "SOME_AUTH_TYPE", "PATTERN", "PATH", "PASSES", "BYPASS", "PAT_SIZE", "PWDS"]
        {
            assert!(secrets_in(name, value).is_empty(), "{name}");
        }
        for (proxy, password) in [
            ("http://me:hunter2@proxy:3128", Some("hunter2")),
            ("http://proxy:3128", None),
            ("me@proxy", None),
        ] {
            let found = secrets_in("https_proxy", proxy);
            assert_eq!(found.first().map(String::as_str), password, "{proxy}");
        }
    }

    #[test]
    fn where_the_daemon_was_started_is_no_secret() {
        let base = environment(&[("PWD", "/repositories"), ("OLDPWD", "/repositories")]);
        assert!(inherited(&base).all(|(name, value)| secrets_in(name, value).is_empty()));
        assert_eq!(secrets_in("PWD", "0123456789ab"), ["0123456789ab"]);
    }

    #[test]
    fn a_secret_is_what_looks_like_no_path_whatever_its_name() {
        for path in ["/home/me/.ssh/id_rsa", "/run/user/1000/keyring", "/tmp/no-such-file/key"] {
            assert!(secrets_in("SSH_KEY", path).is_empty(), "{path}");
        }
        for secret in ["/no-such-folder/abc+", "/home01234567", "//home/0123456789"] {
            assert_eq!(secrets_in("SOME_KEY", secret), [secret]);
        }
        assert_eq!(secrets_in("KEY_FILE", "0123456789ab"), ["0123456789ab"]);
    }

    #[test]
    fn what_follows_a_colon_is_the_value_of_a_header_only() {
        let value = "0123456789abcdef: x";
        assert_eq!(secrets_in("X_SECRET", value), [value]);
        assert_eq!(secrets_in("SOME_HEADERS", "x: 0123456789abcdef"), ["0123456789abcdef"]);
    }

    #[test]
    fn each_of_several_headers_in_one_line_has_its_value() {
        let shown = |value, said: &str| {
            Secrets::new(secrets_in("OTEL_EXPORTER_OTLP_HEADERS", value)).hide(said.to_owned())
        };
        let value = "api-key=abcdef0123456, authorization=Basic YWJjZGVmMDE=,x=y";
        assert_eq!(
            shown(value, "abcdef0123456 or YWJjZGVmMDE= of api-key"),
            "*** or *** of api-key"
        );
        assert_eq!(shown("YWJjZGVmMDE=", "YWJjZGVmMDE="), "***");
        let media = "application/json";
        assert_eq!(shown("Accept: application/json, text/event-stream", media), media);
    }

    #[test]
    fn a_line_of_json_without_a_secret_is_one_still() {
        let secret = "0123456789ab\"";
        let secrets = Secrets::new(vec![secret.to_owned()]);
        let said = serde_json::json!({ "text": format!("it is {secret}") }).to_string();
        assert_eq!(secrets.hide(said), r#"{"text":"it is ***"}"#);
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
