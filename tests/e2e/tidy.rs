//! The shape of the code: which place may know which, how large it may grow, and what is easily
//! forgotten. Reads source files as text, so an alias can fool it; crate borders cannot.

use std::fs;
use std::path::{Path, PathBuf};

use sessd_proto::{EventType, Reason, TrashReason};
use sessd_tests::tree::files_below;

mod floors;
mod rules;
mod words;

/// The places outside `providers/` that name a provider, each with the reason.
const NAMED: &[(&str, &str)] = &[
    // The process of the built-in agent is sessd itself.
    ("daemon/src/lib.rs", "providers::echo"),
    // A word of the protocol, for the place in a list.
    ("daemon/src/mcp_client/mod.rs", "\"cursor\""),
];

/// All that a provider may use of the daemon, so that `providers/` can be lifted out whole.
const FOR_PROVIDERS: &[&str] = &["providers", "process", "clock"];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// Words of closed vocabularies have an enum in `proto`. One-word spellings are left out: they are
/// also keys of JSON documents.
#[test]
fn vocabulary_words_are_spelled_in_proto_only() {
    let is_distinct = |word: &&str| word.contains('_');
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let events = EventType::ALL.iter().map(|kind| kind.as_str());
    let trash = TrashReason::ALL.iter().map(|reason| reason.as_str());
    let words: Vec<_> = reasons.chain(events).chain(trash).filter(is_distinct).collect();
    assert!(words.len() > 20, "the vocabularies are not where they were");
    let mut broken = String::new();
    for source in product() {
        // Providers read formats of others, which have some of the same words.
        let is_format = ["/stream.rs", "/transcript.rs"].iter().any(|it| source.name.ends_with(it));
        if source.name.starts_with("proto/") || is_format {
            continue;
        }
        for (number, line) in source.code() {
            if let Some(word) = words.iter().find(|word| line.contains(&format!("\"{word}\""))) {
                broken += &format!("{}:{number}: \"{word}\": use the enum\n", source.name);
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn nothing_outside_providers_names_a_provider() {
    let providers = providers();
    let mut broken = String::new();
    for source in product() {
        if source.name.starts_with("daemon/src/providers/") {
            continue;
        }
        for (number, line) in source.code() {
            for id in &providers {
                let literal = [format!("\"{id}\""), format!("\"{id} "), format!("providers::{id}")];
                let Some(found) = literal.iter().find(|text| line.contains(&***text)) else {
                    continue;
                };
                if !NAMED.contains(&(&*source.name, &**found)) {
                    broken += &format!("{}:{number}: {found}\n", source.name);
                }
            }
        }
    }
    assert!(broken.is_empty(), "a provider is one folder, nothing else names it:\n{broken}");
}

#[test]
fn providers_use_nothing_of_the_daemon_but_process_and_clock() {
    let mut broken = String::new();
    for source in product().iter().filter(|it| it.name.starts_with("daemon/src/providers/")) {
        for (number, line) in source.code() {
            for rest in line.split("crate::").skip(1) {
                let module = words(rest).next().filter(|word| rest.starts_with(word));
                if !module.is_some_and(|module| FOR_PROVIDERS.contains(&module)) {
                    broken += &format!("{}:{number}: crate::{rest}\n", source.name);
                }
            }
        }
    }
    assert!(broken.is_empty(), "a provider may use {FOR_PROVIDERS:?} only:\n{broken}");
}

#[test]
fn no_provider_names_another_and_what_they_share_names_none() {
    let providers = providers();
    let mut broken = String::new();
    for source in product() {
        let Some(name) = source.name.strip_prefix("daemon/src/providers/") else { continue };
        if name == "mod.rs" {
            continue;
        }
        let own = name.split('/').next().unwrap_or_default();
        for (number, line) in source.code() {
            // A text between quotes may be the name of a file or of a model.
            for word in line.split('"').step_by(2).flat_map(words) {
                if word != own && providers.iter().any(|id| id == word) {
                    broken += &format!("{}:{number}: {word}\n", source.name);
                }
            }
        }
    }
    assert!(broken.is_empty(), "only providers/mod.rs names a provider:\n{broken}");
}

#[test]
fn every_file_says_what_it_is_and_keeps_its_size() {
    let mut broken = String::new();
    for Source { name, text } in sources() {
        if !text.starts_with("//! ") {
            broken += &format!("{name}: begins without `//!`\n");
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            broken += &format!("{name}: {lines} lines, split it by noun\n");
        }
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > LINE_COLUMNS_MAX {
                broken += &format!("{name}:{number}: longer than {LINE_COLUMNS_MAX} columns\n");
            }
        }
        for (number, lines) in functions(&text).filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            broken += &format!("{name}:{number}: a function of {lines} lines\n");
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn no_file_is_forgotten() {
    let main = read("tests/e2e/main.rs");
    for Source { name, .. } in sources() {
        let Some(module) = name.strip_prefix("tests/e2e/").and_then(|n| n.strip_suffix(".rs"))
        else {
            continue;
        };
        let (file, module) = match module.rsplit_once('/') {
            Some((parent, module)) => (&read(&format!("tests/e2e/{parent}.rs")), module),
            None => (&main, module),
        };
        let declared = module == "main" || file.contains(&format!("mod {module};"));
        assert!(declared, "{name} is not declared in the file above it");
    }
    let all = read("daemon/src/providers/mod.rs");
    let all = all.split("pub static ALL").nth(1).and_then(|rest| rest.split(';').next());
    let all = all.expect("providers::ALL");
    for id in providers() {
        assert!(all.contains(&format!("{id}::")), "`{id}` is not in providers::ALL");
        let fixture = root().join("daemon/src/providers/fixtures").join(&id);
        assert!(fixture.is_dir(), "`{id}` has no fixture: make {}", fixture.display());
    }
}

#[test]
fn every_index_that_a_query_insists_on_exists() {
    let schema = read("daemon/src/store/schema.sql");
    let mut seen = 0;
    for source in product().into_iter().filter(|s| s.name.starts_with("daemon/src/store/")) {
        for rest in source.text.split("INDEXED BY ").skip(1) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
            let whole = !rest[name.len()..].starts_with('{');
            let wanted = format!("CREATE INDEX {name}{}", if whole { " " } else { "" });
            assert!(schema.contains(&wanted), "{}: no index {name}", source.name);
            seen += 1;
        }
    }
    assert!(seen > 0, "no query names its index any more: this test looks at nothing");
}

/// A file of ours.
struct Source {
    /// Its path from the workspace's root.
    name: String,
    text: String,
}

impl Source {
    /// The numbered lines that are neither comments nor unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let comment = if self.name.ends_with(".toml") { "#" } else { "//" };
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        (1..).zip(code.lines()).filter(move |(_, line)| !line.trim_start().starts_with(comment))
    }
}

/// The files that are shipped: everything but tests.
fn product() -> Vec<Source> {
    let is_test = |name: &str| {
        name.starts_with("tests/")
            || name.contains("/tests/")
            || name.ends_with("/tests.rs")
            || name.ends_with("/providers/fixtures.rs")
    };
    let manifests = ["cli", "daemon", "proto"].map(|krate| format!("{krate}/Cargo.toml"));
    let manifests = manifests.map(|name| Source { text: read(&name), name });
    sources().into_iter().filter(|source| !is_test(&source.name)).chain(manifests).collect()
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["cli", "daemon", "proto", "tests"] {
        for path in files_below(&root().join(folder)) {
            let is_ours = path.extension().is_some_and(|extension| extension == "rs");
            let name = path.strip_prefix(root()).expect("a file below the root").to_string_lossy();
            if is_ours && !name.contains("/target/") && !name.contains("/fixtures/") {
                sources.push(Source { text: read(&name), name: name.into_owned() });
            }
        }
    }
    assert!(sources.len() > 50, "the sources are not where they were");
    sources
}

/// The folders of all providers, each named by the id of the provider in it.
fn providers() -> Vec<String> {
    let name = |source: Source| {
        let name = source.name.strip_prefix("daemon/src/providers/")?.strip_suffix("/mod.rs")?;
        source.text.contains("impl Provider for ").then(|| name.to_owned())
    };
    let providers: Vec<_> = product().into_iter().filter_map(name).collect();
    assert!(!providers.is_empty(), "no provider found");
    providers
}

/// The identifiers in a piece of code.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The first line of each function and its number of lines, in code formatted by rustfmt.
fn functions(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |line: &str| {
        let words = line.trim_start().split('(').next().unwrap_or_default();
        words.split(' ').any(|word| word == "fn") && !line.trim_start().starts_with("//")
    };
    let starts: Vec<usize> = (0..lines.len()).filter(|at| is_start(lines[*at])).collect();
    starts.into_iter().map(move |start| {
        let indent = lines[start].len() - lines[start].trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        // A declaration without a body ends on its first line, or has no such end of its own.
        let body = !lines[start].ends_with(';');
        let length = lines[start..].iter().position(|line| body && *line == end);
        (start + 1, length.unwrap_or(0) + 1)
    })
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace above its member").to_owned()
}
