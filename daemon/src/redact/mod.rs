//! Redaction: hides secrets wherever a provider or a tool server repeats them, since their output
//! is stored. Secrets are recognised by the names they are given under. Knows no provider, no
//! registry and no launch; `stream` redacts text that arrives in chunks, `url` addresses.

use std::cmp::Reverse;
use std::fs;

pub(crate) mod stream;
pub(crate) mod url;

/// Parts of a variable, header or parameter name that make its value a secret.
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

/// Words that make a value a secret only at the end of a name: elsewhere they are part of another
/// word, or followed by something about the secret, such as its type.
const LAST_WORDS: [&str; 4] = ["AUTH", "PASS", "PAT", "PWD"];

/// The shortest value that is hidden, in bytes: a shorter one may be part of any text.
pub(crate) const LENGTH_MIN: usize = 12;

/// The shortest header value that is hidden, in bytes. It is less than [`LENGTH_MIN`] since headers
/// are hidden only in the error messages of a server.
pub(crate) const HEADER_LENGTH_MIN: usize = 6;

/// The text that replaces a secret.
const HIDDEN: &str = "***";

/// The secrets that a process was given, longest first, since one may be a prefix of another.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Creates the set of secrets with these values.
    pub(crate) fn new(mut secrets: Vec<String>) -> Self {
        // Also in the form that JSON escapes them to, without its quotes.
        let escaped = secrets.iter().map(|secret| serde_json::Value::from(&**secret).to_string());
        let escaped = escaped.map(|it| it[1..it.len() - 1].to_owned()).collect::<Vec<_>>();
        secrets.extend(escaped);
        secrets.sort_unstable_by(|a, b| (Reverse(a.len()), a).cmp(&(Reverse(b.len()), b)));
        secrets.dedup();
        Self(secrets)
    }

    #[cfg(test)]
    pub(crate) fn of_values(values: &[&str]) -> Self {
        Self::new(values.iter().map(|value| (*value).to_owned()).collect())
    }

    /// Returns the length of the prefix that can be emitted now, in bytes: everything before a
    /// possible partial match of a secret.
    pub(crate) fn settled_len(&self, text: &str) -> usize {
        let mut end = text.len() - self.partial_len(text);
        for secret in &self.0 {
            let across = |at: &usize| (*at..at + secret.len()).contains(&end) && *at < end;
            let found = text.match_indices(&**secret).map(|(at, _)| at).find(across);
            end = found.unwrap_or(end);
        }
        end
    }

    /// Returns the length of the longest suffix that may be the start of a secret, in bytes.
    fn partial_len(&self, text: &str) -> usize {
        let partial = |secret: &String| {
            let ends = secret.char_indices().skip(1).map(|(end, _)| end);
            ends.filter(|end| text.ends_with(&secret[..*end])).last().unwrap_or_default()
        };
        self.0.iter().map(partial).max().unwrap_or_default()
    }

    /// Hides secrets in the last piece of a text, which may end in the middle of one.
    pub(crate) fn hide_cut_off(&self, text: String) -> String {
        let mut text = self.hide(text);
        let partial = self.partial_len(&text);
        if partial >= LENGTH_MIN {
            text.replace_range(text.len() - partial.., HIDDEN);
        }
        text
    }

    /// Returns the text with every secret replaced.
    pub(crate) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, HIDDEN),
            false => text,
        })
    }
}

/// Returns the secret parts of a value, judged by its name. An absolute path with two components or
/// more is not a secret, whatever its name; `/a` and relative paths may be.
pub(crate) fn secrets_in(name: &str, value: &str) -> Vec<String> {
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

/// True for `/a/b` if `/a` exists, since a key may start with a slash too. Only `/` is listed:
/// anything deeper may be on a disk that does not answer.
fn is_path(value: &str) -> bool {
    let first = value.strip_prefix('/').and_then(|path| path.split_once('/'));
    first.is_some_and(|(first, _)| {
        let mut there = fs::read_dir("/").into_iter().flatten().flatten();
        there.any(|entry| entry.file_name() == first)
    })
}

/// Returns the value of `name: value`, which may contain commas, or all values of
/// `name=value,name=value`, which may also be a single value without a name.
fn header_values(line: &str) -> Vec<&str> {
    if let Some((_, value)) = line.split_once(": ") {
        return vec![value];
    }
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(_, value)| value.trim()).chain([line]).collect()
}

/// Returns a value, and its part after a scheme such as `Bearer`.
pub(crate) fn with_and_without_scheme(value: &str) -> Vec<String> {
    let bare = value.split_once(' ').map(|(_, bare)| bare).filter(|bare| !bare.contains(' '));
    [Some(value), bare].into_iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_secrets_from_similar_words() {
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
    fn absolute_paths_are_not_secrets() {
        for path in ["/home/me/.ssh/id_rsa", "/run/user/1000/keyring", "/tmp/no-such-file/key"] {
            assert!(secrets_in("SSH_KEY", path).is_empty(), "{path}");
        }
        for secret in ["/no-such-folder/abc+", "/home01234567", "//home/0123456789"] {
            assert_eq!(secrets_in("SOME_KEY", secret), [secret]);
        }
        assert_eq!(secrets_in("KEY_FILE", "0123456789ab"), ["0123456789ab"]);
    }

    #[test]
    fn colon_separates_a_value_only_in_headers() {
        let value = "0123456789abcdef: x";
        assert_eq!(secrets_in("X_SECRET", value), [value]);
        assert_eq!(secrets_in("SOME_HEADERS", "x: 0123456789abcdef"), ["0123456789abcdef"]);
    }

    #[test]
    fn every_header_of_one_line_is_hidden() {
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
    fn redacted_json_is_still_json() {
        let secret = "0123456789ab\"";
        let secrets = Secrets::new(vec![secret.to_owned()]);
        let said = serde_json::json!({ "text": format!("it is {secret}") }).to_string();
        assert_eq!(secrets.hide(said), r#"{"text":"it is ***"}"#);
    }
}
