//! `sessctl help`: the help of a command, or a topic that explains the words in the output.

use std::ffi::OsString;
use std::iter::once;

use sessd_proto::Fault;
use sessd_proto::reference::{self, Entry, Table, Topic};

use crate::Context;

/// Columns of a page of text.
const COLUMNS: usize = 78;

/// Print help for a command, or explain a topic
///
/// The topics `events`, `reasons`, `faults` and `states` explain the words in the output and in
/// JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A command or a topic
    #[arg(value_name = "COMMAND|TOPIC")]
    words: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: Args) -> Result<(), Fault> {
    let topic = reference::topics().into_iter().find(|topic| args.words == [topic.name]);
    match topic {
        Some(topic) if context.output.is_json() => context.output.json(&topic),
        Some(topic) => context.output.data(&page(&topic)),
        None => of_command(args.words),
    }
}

/// Runs the same command line with `--help`, which prints and exits.
fn of_command(words: Vec<String>) -> Result<(), Fault> {
    let words = words.into_iter().map(OsString::from);
    let line = once("sessctl".into()).chain(words).chain(once("--help".into())).collect();
    match crate::parse(line) {
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => Err(crate::usage(&error.render().to_string())),
        Ok(_) => Ok(()),
    }
}

fn page(topic: &Topic) -> String {
    topic.tables.iter().map(section).collect::<Vec<_>>().join("\n")
}

fn section(table: &Table) -> String {
    let mut text = format!("{}\n\n{}", table.title.to_uppercase(), wrapped(table.about, 0));
    for Entry { word, meaning, note } in &table.entries {
        text += &format!("\n  {word}\n{}", wrapped(meaning, 6));
        if !note.is_empty() {
            text += &wrapped(&format!("{}: {note}", table.note), 6);
        }
    }
    text
}

/// Breaks a text into lines that fit the page, each after an indent.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(indent);
    for word in text.split_whitespace() {
        let is_first = line.len() == indent;
        if !is_first && line.len() + 1 + word.len() > COLUMNS {
            lines += &line;
            lines.push('\n');
            line = " ".repeat(indent);
        } else if !is_first {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_with_its_indent() {
        let text = "word ".repeat(20);
        let lines = wrapped(&text, 6);
        assert!(lines.lines().all(|line| line.starts_with("      word") && line.len() <= COLUMNS));
        assert_eq!(lines.split_whitespace().count(), 20);
    }

    #[test]
    fn every_topic_fits_a_terminal() {
        for topic in reference::topics() {
            for line in page(&topic).lines() {
                assert!(line.len() <= 80, "{}: {line}", topic.name);
            }
        }
    }
}
