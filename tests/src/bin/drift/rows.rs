//! Runs the end-to-end tests of one provider, and counts what they saw. Knows no fact.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sessd_tests::npm::Cli;
use sessd_tests::real_cli::RealCli;

/// Runs the tests with this version; returns passed and promised tests by module, and the premises
/// that fell. Prints both, and the reason of every failure.
pub(super) fn run(cli: &dyn RealCli, version: Cli) -> Value {
    let provider = cli.provider();
    let names = names(provider);
    let seen = tempfile::NamedTempFile::new().expect("a temporary file");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--package=sessd-tests", "--test=e2e", "--", "--exact"]);
    command.args(["--test-threads=2"]).args(&names);
    command.env("SESSD_TEST_ONLY", provider).env(version.variable(), version.version);
    command.env("SESSD_TEST_SEEN", seen.path());
    let output = command.output().expect("cargo");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stdout.contains("test result: "), "no test was run: {stderr}");
    // A result is not on the line of its test's name if the test has printed something.
    let failed: BTreeSet<&str> = failures(&stdout).collect();
    let notes = fs::read_to_string(seen.path()).unwrap_or_default();
    let notes: Vec<Vec<&str>> = notes.lines().map(|line| line.split('\t').collect()).collect();
    // A test without a row of this provider has promised nothing of it.
    let rows = notes.iter().filter(|note| note[0] == "row").map(|note| note[3]);
    // The other threads of a test have no name.
    let with_row: BTreeSet<&str> = rows.filter(|name| !name.is_empty()).collect();
    let promised: BTreeSet<&str> = with_row.union(&failed).copied().collect();
    let passed: BTreeSet<&str> = promised.difference(&failed).copied().collect();
    let held = passed.len();
    println!("promised: {}", promised.len());
    println!("seen: {held}");
    for name in &failed {
        println!("  not seen: {name}: {}", reason(&stdout, name));
    }
    let fell: BTreeSet<&str> =
        notes.iter().filter(|note| note[0] == "fell").map(|note| note[4]).collect();
    println!("premises that fell: {}", fell.len());
    fell.iter().for_each(|premise| println!("  {premise}"));
    json!({"tests": by_module(&promised, &passed), "premises that fell": fell})
}

/// Returns `module::test` of every end-to-end test that names the provider's CLI, or all CLIs.
fn names(provider: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    let entries = fs::read_dir(folder).expect("the tests").flatten();
    let mut names = Vec::new();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_file()) {
        let module = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
        let text = fs::read_to_string(&path).expect("a test");
        for test in text.split("#[test]").skip(1) {
            let Some((_, rest)) = test.split_once("fn ") else { continue };
            let Some((name, _)) = rest.split_once('(') else { continue };
            let is_it = |word: &str| {
                word.eq_ignore_ascii_case(provider) && word.starts_with(char::is_uppercase)
            };
            let mut words = test.split(|c: char| !c.is_alphanumeric());
            if test.contains("real_cli::ALL") || words.any(is_it) {
                names.push(format!("{module}::{name}"));
            }
        }
    }
    names.sort();
    names
}

/// Returns the names in the list of failures at the end.
fn failures(stdout: &str) -> impl Iterator<Item = &str> {
    let list = stdout.rsplit_once("\nfailures:\n").map_or("", |it| it.1);
    list.lines()
        .take_while(|line| !line.starts_with("test result"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
}

/// Returns the message of a test's panic.
fn reason<'a>(stdout: &'a str, name: &str) -> &'a str {
    let said = stdout.split_once(&format!("---- {name} stdout ----")).map_or("", |it| it.1);
    let message = said.split_once("panicked at").and_then(|it| it.1.split_once('\n'));
    let line = message.map_or("", |it| it.1).lines().next().unwrap_or_default();
    line.char_indices().nth(300).map_or(line, |(end, _)| &line[..end])
}

fn by_module(promised: &BTreeSet<&str>, passed: &BTreeSet<&str>) -> Value {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for name in promised {
        let module = name.split("::").next().unwrap_or_default();
        let count = counts.entry(module).or_default();
        count.0 += usize::from(passed.contains(name));
        count.1 += 1;
    }
    let texts = counts.into_iter();
    let texts =
        texts.map(|(module, (ok, all))| (module.to_owned(), json!(format!("{ok} of {all}"))));
    Value::Object(texts.collect())
}
