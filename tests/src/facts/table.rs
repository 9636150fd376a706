//! The sheets that are checked in, and the page of documentation that is made of them. Runs
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The columns of the page, each with the modules of `tests/e2e` that prove it.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("found", &["discover", "list"]),
    ("verdicts", &["verdicts", "resume_refused", "free_checks", "gone"]),
    ("resumed", &["real_cli_works", "resume_real", "resume", "lost_at_start", "fallback"]),
    ("live", &["live", "steal", "new"]),
    (
        "turns",
        &["turns", "turn_checks", "turn_order", "concurrent_turns", "failed_calls", "tool_events"],
    ),
    ("agents", &["agents_real", "permissions_real", "tools", "provider_traps", "capabilities"]),
];

const HEAD: &str = "# Providers

What is proven with which version of each provider's CLI, by running that CLI. This page and the
sheets in `tests/facts/` are written by `cargo run -p sessd-tests --bin drift`, see
`CONTRIBUTING.md`. A cell says how many tests passed of those that promise something there; `–`:
not run with this version. A premise is what a test takes for granted of the CLI itself.

";

/// Returns the folder of the sheets.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("facts")
}

/// Returns the path of the page.
pub fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md")
}

/// Returns the path of a sheet.
pub fn sheet(provider: &str, version: &str) -> PathBuf {
    folder().join(format!("{provider}-{version}.json"))
}

/// Returns every sheet, sorted by provider and version.
pub fn sheets() -> Vec<Value> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut sheets: Vec<Value> = entries
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
        .collect();
    sheets.sort_by_key(|sheet| (text(sheet, "provider").to_owned(), order(text(sheet, "version"))));
    sheets
}

/// Returns the newest sheet of a provider that is older than this version.
pub fn before(provider: &str, version: &str) -> Option<Value> {
    let is_older = |sheet: &Value| {
        sheet["provider"] == provider && order(text(sheet, "version")) < order(version)
    };
    sheets().into_iter().rfind(is_older)
}

/// Returns the page.
pub fn render(sheets: &[Value]) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    let mut page = format!(
        "{HEAD}| CLI | {names} | resumed in another directory | premises that fell |\n\
         |{}\n",
        "---|".repeat(COLUMNS.len() + 3)
    );
    for sheet in sheets {
        let cells = COLUMNS.map(|(_, modules)| cell(&sheet["seen"], modules)).join(" | ");
        let elsewhere = match &sheet["resumed elsewhere"] {
            Value::String(text) => text.clone(),
            Value::Number(code) => format!("refused ({code})"),
            _ => "–".to_owned(),
        };
        let fell = sheet["seen"]["premises that fell"].as_array();
        let fell = fell.map_or("–".to_owned(), |it| it.len().to_string());
        let [provider, version] = ["provider", "version"].map(|key| text(sheet, key));
        page += &format!("| {provider} {version} | {cells} | {elsewhere} | {fell} |\n");
    }
    page + &fallen(sheets)
}

/// Returns the list of the premises that fell.
fn fallen(sheets: &[Value]) -> String {
    let mut list = String::new();
    for sheet in sheets {
        let [provider, version] = ["provider", "version"].map(|key| text(sheet, key));
        for premise in sheet["seen"]["premises that fell"].as_array().into_iter().flatten() {
            list += &format!("- {provider} {version}: {}\n", premise.as_str().unwrap_or_default());
        }
    }
    if list.is_empty() { list } else { format!("\nPremises that fell:\n\n{list}") }
}

/// Adds up what was seen in these modules.
fn cell(seen: &Value, modules: &[&str]) -> String {
    let counts = modules.iter().filter_map(|module| {
        let (passed, all) = seen["tests"][module].as_str()?.split_once(" of ")?;
        Some((passed.parse::<usize>().ok()?, all.parse::<usize>().ok()?))
    });
    let (passed, all) = counts.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    if all == 0 { "–".to_owned() } else { format!("{passed} of {all}") }
}

fn text<'a>(sheet: &'a Value, key: &str) -> &'a str {
    sheet[key].as_str().unwrap_or_default()
}

/// Returns the parts of a version as numbers.
fn order(version: &str) -> Vec<u64> {
    version.split(['.', '-']).map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real_cli;

    #[test]
    fn the_page_of_providers_is_that_of_the_sheets() {
        let page = fs::read_to_string(page()).unwrap_or_default();
        assert_eq!(page, render(&sheets()), "run `cargo run -p sessd-tests --bin drift -- all`");
    }

    #[test]
    fn every_pin_has_a_sheet_of_facts() {
        for cli in real_cli::ALL {
            let path = sheet(cli.provider(), cli.cli().version);
            assert!(path.exists(), "{} is missing", path.display());
        }
    }

    #[test]
    fn sheets_have_nothing_of_the_machine() {
        for sheet in sheets() {
            let text = sheet.to_string();
            for word in ["/root", "/home/", "127.0.0.1", "e2e-"] {
                assert!(!text.contains(word), "{word} is in the sheet of {}", sheet["provider"]);
            }
        }
    }
}
