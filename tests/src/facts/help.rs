//! The options and commands that a CLI's help names, with the choices that an option takes. What
//! the help says about them is left out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Machine;

/// Returns options and commands of every help, by the words that ask for it.
pub(super) fn gather(machine: &Machine) -> Value {
    let mut sheet = json!({});
    for words in machine.cli.commands_with_help() {
        let mut arguments: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments.push("--help".to_owned());
        let run = machine.run(&arguments, &machine.project);
        // Some write it to the standard error.
        let text = format!("{}\n{}", run.stdout, run.stderr);
        sheet[arguments.join(" ")] =
            json!({"options": options(&text), "commands": commands(&text, machine.cli.cli().name)});
    }
    sheet
}

/// Returns the options, each with its choices or an empty string.
fn options(text: &str) -> BTreeMap<String, String> {
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_option = line.trim_start().starts_with('-') && !line.trim_start().starts_with("- ");
        if is_option {
            entries.push(line.trim().to_owned());
        } else if let Some(entry) = entries.last_mut().filter(|_| line.starts_with("    ")) {
            entry.push_str("  ");
            entry.push_str(line.trim());
        }
    }
    entries.iter().map(|entry| (usage(entry).to_owned(), choices(entry))).collect()
}

/// Returns what comes before the description: `-p, --print <value>`.
fn usage(entry: &str) -> &str {
    entry.split("  ").next().unwrap_or_default().trim()
}

fn choices(entry: &str) -> String {
    for start in ["(choices:", "[choices:", "[possible values:"] {
        if let Some((_, rest)) = entry.split_once(start) {
            let all = rest.split([')', ']']).next().unwrap_or_default();
            let words = all.split(',').map(|word| word.trim().trim_matches('"'));
            return words.collect::<Vec<_>>().join(" ");
        }
    }
    let Some((_, rest)) = entry.split_once("Possible values:") else { return String::new() };
    let words = rest.split("  - ").skip(1);
    words.filter_map(|it| it.split([':', ' ']).next()).collect::<Vec<_>>().join(" ")
}

/// Returns the names of the commands, in one line. Some write the program's name before each.
fn commands(text: &str, program: &str) -> String {
    let begin = |line: &&str| !line.trim().to_lowercase().starts_with("commands:");
    let lines = text.lines().skip_while(begin).skip(1);
    let is_in = |line: &&str| line.starts_with(' ');
    let is_name = |line: &&str| line.len() - line.trim_start().len() <= 2;
    let name = |line: &str| {
        let is_name = |word: &&str| *word != program && word.starts_with(char::is_lowercase);
        let usage = usage(line.trim_start());
        let word = usage.split_whitespace().find(is_name)?;
        Some(word.trim_end_matches(',').to_owned())
    };
    lines.take_while(is_in).filter(is_name).filter_map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_cut_to_options_and_choices() {
        let commander = "Options:\n  -p, --print   Print it\n  --mode <mode>   Which\n    \
            mode (choices: \"plan\",\n    \"auto\")\nCommands:\n  mcp   Servers\n";
        let found = options(commander);
        assert_eq!(found["-p, --print"], "");
        assert_eq!(found["--mode <mode>"], "plan auto");
        assert_eq!(commands(commander, "cli"), "mcp");
        let yargs = "commands:\n  cli run [x]  words\n  cli mcp  words\n";
        assert_eq!(commands(yargs, "cli"), "run mcp");
        let clap = "  -s, --sandbox <MODE>\n    Which\n\n    Possible values:\n    \
            - read-only: words\n    - full: words\n";
        assert_eq!(options(clap)["-s, --sandbox <MODE>"], "read-only full");
    }
}
