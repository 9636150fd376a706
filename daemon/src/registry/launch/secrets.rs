//! Collects the secrets that a launched process or a tool server is given, so that they can be
//! redacted in its output. It must not know the output.

use std::collections::BTreeMap;

use sessd_proto::{Environment, LaunchPlan};

use crate::providers::{Launch, McpServer};
use crate::redact::url::{may_be_name, parts};
use crate::redact::{HEADER_LENGTH_MIN, LENGTH_MIN, Secrets, secrets_in, with_and_without_scheme};

/// Returns the secrets of a process that is started by `plan` on top of `base`. Every variable
/// listed in `[environment]` (`own`) counts as a secret, whatever its name.
pub(crate) fn of_launch(
    plan: &LaunchPlan,
    base: &Environment,
    launch: &Launch,
    own: &BTreeMap<String, Vec<String>>,
) -> Secrets {
    let own = own.values().flatten().filter_map(|name| Some(("KEY", base.get(name)?)));
    let given = plan.env.iter().filter_map(|(name, value)| Some((&**name, value.as_deref()?)));
    let given = given.chain(inherited(base)).chain(launch.mcp_servers.values().flat_map(named));
    let given = given.chain(own);
    Secrets::new(given.flat_map(|(name, value)| secrets_in(name, value)).collect())
}

/// Returns the secrets of a tool server that is called with this environment. They are looked for
/// in its error messages only, so all of its headers count, and every part of its address that
/// may be a key.
pub(crate) fn of_server(server: &McpServer, base: &Environment) -> Secrets {
    let given = inherited(base).chain(named(server));
    let mut secrets: Vec<_> = given.flat_map(|(name, value)| secrets_in(name, value)).collect();
    if let McpServer::Http { url, headers } = server {
        let values = headers.0.values().flat_map(|value| with_and_without_scheme(value));
        secrets.extend(values.filter(|value| value.len() >= HEADER_LENGTH_MIN));
        let parts = parts(url).filter(|part| part.len() >= LENGTH_MIN);
        secrets.extend(parts.map(str::to_owned));
    }
    Secrets::new(secrets)
}

/// Returns the environment without `PWD`, which is a path and not a password.
fn inherited(base: &Environment) -> impl Iterator<Item = (&str, &str)> {
    pairs(base).filter(|(name, _)| *name != "PWD")
}

fn pairs(env: &Environment) -> impl Iterator<Item = (&str, &str)> {
    env.0.iter().map(|(name, value)| (&**name, &**value))
}

/// Returns the named values that a tool server is given: environment, headers, and the user and
/// parameters of its address. Any other part of the address is a key, unless it may be a name.
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
        let secrets = of_launch(&LaunchPlan::default(), &base, &launch, &own);
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
        of_launch(&LaunchPlan::default(), &Environment::default(), &launch, &[].into())
    }

    #[test]
    fn keys_in_an_address_are_hidden_and_words_are_not() {
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
    fn names_in_an_address_stay_readable() {
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
    fn host_of_a_server_is_not_a_secret() {
        let url = "https://mcp.example.example?key=sk-987654321";
        let server = McpServer::Http { url: url.to_owned(), headers: Environment::default() };
        let secrets = of_server(&server, &Environment::default());
        assert_eq!(secrets.hide(url.to_owned()), "https://mcp.example.example?key=***");
    }

    #[test]
    fn working_directory_is_not_a_secret() {
        let base = environment(&[("PWD", "/repositories"), ("OLDPWD", "/repositories")]);
        assert!(inherited(&base).all(|(name, value)| secrets_in(name, value).is_empty()));
        assert_eq!(secrets_in("PWD", "0123456789ab"), ["0123456789ab"]);
    }

    #[test]
    fn server_error_repeats_nothing_it_was_sent() {
        let server = McpServer::Http {
            url: "https://somebody:0123456789ab@example.example/sk-987654321/mcp?k=sk-555555555"
                .to_owned(),
            headers: environment(&[("X-Who", "Bearer sk-0123"), ("X-Team", "red")]),
        };
        let said = "no Bearer sk-0123, sk-0123 at /sk-987654321/mcp?k=sk-555555555 of red \
                    example.example for 0123456789ab";
        assert_eq!(
            of_server(&server, &Environment::default()).hide(said.to_owned()),
            "no ***, *** at /***/mcp?k=*** of red example.example for ***"
        );
    }
}
