//! `drift claude[@VERSION]… | all [--facts]`: installs a version of a provider's CLI (the newest
//! by default), runs that provider's end-to-end tests with it, and says what they promised and saw,
//! which premises fell, and which facts changed since the last sheet. Writes the new sheet, and
//! `docs/providers.md`. With `--facts` no tests are run.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the tests: its output is a report, and a broken assumption ends it at once"
)]

mod rows;

use std::fs;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};
use sessd_tests::facts::{self, table};
use sessd_tests::npm::{self, Cli};
use sessd_tests::real_cli::{self, RealCli};

fn main() -> ExitCode {
    let (options, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let is_all = names == ["all"];
    let all = || real_cli::ALL.iter().map(|it| it.provider().to_owned()).collect();
    let names: Vec<String> = if is_all { all() } else { names };
    let is_known = |option: &String| option == "--facts";
    if names.is_empty() || !options.iter().all(is_known) {
        eprintln!("usage: drift PROVIDER[@VERSION]... | all [--facts]");
        return ExitCode::from(2);
    }
    for name in names {
        let (name, version) = name.split_once('@').unwrap_or((name.as_str(), ""));
        let Some(cli) = real_cli::ALL.into_iter().find(|it| it.provider() == name) else {
            eprintln!("no such provider: {name}");
            return ExitCode::from(2);
        };
        let Some(version) = installed(cli, version) else { return ExitCode::FAILURE };
        look_at(cli, version, options.is_empty());
    }
    fs::write(table::page(), table::render(&table::sheets())).expect("our own documentation");
    ExitCode::SUCCESS
}

/// Returns the CLI at this version, else at the newest that npm has, else at its pin.
fn installed(cli: &dyn RealCli, version: &str) -> Option<Cli> {
    let pin = cli.cli();
    if !version.is_empty() {
        let wanted = pin.at(version.to_owned());
        return npm::install(&wanted).map(|_| wanted);
    }
    let newest = Command::new("npm").args(["view", pin.package, "version"]).output().ok()?;
    let newest = String::from_utf8_lossy(&newest.stdout).trim().to_owned();
    if !newest.is_empty() && newest != pin.version {
        println!("{}: the newest is {newest}, the pin {}", pin.name, pin.version);
        let newest = pin.at(newest);
        if npm::install(&newest).is_some() {
            return Some(newest);
        }
    }
    npm::install(&pin).map(|_| pin)
}

/// Says how this version differs from what is checked in, and writes its sheet.
fn look_at(cli: &'static dyn RealCli, version: Cli, with_rows: bool) {
    let provider = cli.provider();
    println!("== {provider} {}", version.version);
    let path = table::sheet(provider, version.version);
    let same: Option<Value> = fs::read(&path).ok().and_then(|it| serde_json::from_slice(&it).ok());
    let mut sheet = facts::gather(cli, version);
    sheet["seen"] = same.as_ref().map_or(Value::Null, |same| same["seen"].clone());
    if with_rows {
        sheet["seen"] = rows::run(cli, version);
    }
    for old in [table::before(provider, version.version), same].into_iter().flatten() {
        tell_changes(&old, &sheet);
    }
    let text = serde_json::to_string_pretty(&sheet).expect("values");
    fs::create_dir_all(table::folder()).expect("our own folder");
    fs::write(path, text + "\n").expect("our own file");
}

fn tell_changes(old: &Value, new: &Value) {
    let without_results = |sheet: &Value| {
        let mut facts = sheet.clone();
        facts["seen"] = json!(null);
        facts["version"] = json!(null);
        facts
    };
    let changes = facts::changes(&without_results(old), &without_results(new));
    println!("facts that changed since {}: {}", old["version"], changes.len());
    changes.iter().for_each(|line| println!("  {line}"));
}
