//! The only place that prints. Data goes to stdout, everything else to stderr. On a terminal,
//! tables are cut to its width; through a pipe they are tab-separated and not cut.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sessd_proto::{Fault, FaultCode, Timestamp, printable};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Width of a terminal that does not report its own.
const COLUMNS: usize = 80;

/// Destination and format of everything that is printed.
pub struct Output {
    json: bool,
    /// Width of the terminal in columns; `None` through a pipe.
    columns: Option<usize>,
}

impl Output {
    /// Creates an output in JSON or text, for the terminal or pipe on stdout.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let size = || rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns = || size().map_or(0, |size| usize::from(size.ws_col));
        let columns =
            terminal.then(columns).map(|columns| if columns < 20 { COLUMNS } else { columns });
        Self { json, columns }
    }

    /// True if the output is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Switches to JSON, for faults too.
    pub fn say_json(&mut self) {
        self.json = true;
    }

    /// True if stdout is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.columns.is_some()
    }

    /// Prints one JSON document.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if stdout cannot be written.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Fault> {
        let text = if self.is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.data(&(text.map_err(Fault::internal)? + "\n"))
    }

    /// Prints text to stdout as it is. Exits if the reader has closed the pipe.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if stdout cannot be written.
    pub fn data(&self, text: &str) -> Result<(), Fault> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // E.g. `sessctl list | head -1`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                let what = format!("cannot write to standard output: {error}");
                Err(Fault::new(FaultCode::Environment, what))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Prints a note to stderr.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", clean(text));
    }

    /// Prints a note to stderr if that is a terminal.
    pub fn aside(&self, text: &str) {
        if io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// Prints a fault to stderr.
    pub fn fault(&self, fault: &Fault) {
        let mut errors = io::stderr().lock();
        if self.json {
            let _ = writeln!(errors, "{}", serde_json::json!({ "error": fault }));
            return;
        }
        let _ = writeln!(errors, "error: {}", clean_lines(&fault.message));
        if let Some(hint) = &fault.hint {
            let _ = writeln!(errors, "hint: {}", clean_lines(hint));
        }
    }

    /// Prints a table. On a terminal the last column is cut to fit; through a pipe there is no
    /// head.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if stdout cannot be written.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Fault> {
        let Some(columns) = self.columns else {
            let mut lines = String::new();
            for row in rows {
                for (number, cell) in row.iter().enumerate() {
                    lines += if number == 0 { "" } else { "\t" };
                    lines += &clean(cell);
                }
                lines.push('\n');
            }
            return self.data(&lines);
        };
        self.data(&fit(head, rows, columns))
    }

    /// Prints names and values, one pair per line.
    ///
    /// # Errors
    /// [`FaultCode::Environment`] if stdout cannot be written.
    pub fn pairs(&self, pairs: &[(&str, String)]) -> Result<(), Fault> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let line = |(name, value): &(&str, String)| {
            if self.is_terminal() {
                format!("{name:width$}  {}\n", clean(value))
            } else {
                format!("{name}\t{}\n", clean(value))
            }
        };
        self.data(&pairs.iter().map(line).collect::<String>())
    }

    /// Formats a time: its age on a terminal, RFC 3339 through a pipe.
    #[must_use]
    pub fn moment(&self, at: Option<Timestamp>) -> String {
        match at {
            None => "-".to_owned(),
            Some(at) if self.is_terminal() => distance(at, now()),
            Some(at) => at.to_string(),
        }
    }

    /// Formats an id: its first 8 characters on a terminal, all of it through a pipe.
    #[must_use]
    pub fn id(&self, id: &str) -> String {
        if self.is_terminal() { id.get(..8).unwrap_or(id).to_owned() } else { id.to_owned() }
    }

    /// Cuts a line to the terminal's width minus that of a mark before it.
    #[must_use]
    pub fn cut(&self, line: &str, mark: usize) -> String {
        cut(line, self.columns.unwrap_or(COLUMNS).saturating_sub(mark + 1))
    }

    /// Formats a directory: its end, below `~`, on a terminal; all of it through a pipe.
    #[must_use]
    pub fn dir(&self, dir: &str, home: Option<&str>) -> String {
        const DIR: usize = 24;
        if !self.is_terminal() {
            return dir.to_owned();
        }
        let short = home
            .and_then(|home| dir.strip_prefix(home))
            .filter(|r| r.is_empty() || r.starts_with('/'));
        let short = short.map_or_else(|| dir.to_owned(), |rest| format!("~{rest}"));
        if short.width() <= DIR {
            return short;
        }
        let mut end = String::new();
        for part in short.rsplit('/') {
            let longer = format!("/{part}{end}");
            if longer.width() >= DIR {
                break;
            }
            end = longer;
        }
        if end.is_empty() { cut(&short, DIR) } else { format!("…{end}") }
    }
}

/// Returns the current time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Formats the distance of a time from now, in the largest unit that fits.
fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.0.saturating_sub(at.0) / 1000;
    let (sign, seconds) = if seconds < 0 { ("in ", -seconds) } else { ("", seconds) };
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "m"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{sign}{count}{unit}")
}

fn fit(head: &[&str], rows: &[Vec<String>], columns: usize) -> String {
    let head = head.iter().map(|cell| Cow::Borrowed(*cell)).collect::<Vec<_>>();
    let cleaned = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
    let lines: Vec<Vec<Cow<'_, str>>> = std::iter::once(head).chain(cleaned).collect();
    let width_of = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width_of).collect();
    let mut text = String::new();
    for line in &lines {
        let mut used = 0;
        for (at, cell) in line.iter().enumerate() {
            if at + 1 == line.len() {
                text += &cut(cell, columns.saturating_sub(used));
            } else {
                text += cell;
                text += &" ".repeat(widths[at] - cell.width() + 2);
                used += widths[at] + 2;
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Cuts a text to some columns, with an ellipsis at the end.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > columns {
            break;
        }
        kept.push(character);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Makes text that others wrote safe to print in one line.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    printable(text)
}

/// Formats a number with its noun, e.g. `1 problem`, `2 problems`.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_cut_to_fit() {
        let rows = [vec!["a".to_owned(), "日本語の長い題名".to_owned()]];
        assert_eq!(fit(&["ID", "TITLE"], &rows, 14), "ID  TITLE\na   日本語の…\n");
    }

    #[test]
    fn a_title_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc"), "a [2Jb  c");
    }

    #[test]
    fn distances_use_the_largest_unit() {
        let at = |seconds: i64| {
            distance(Timestamp(1_000_000_000 - seconds * 1000), Timestamp(1_000_000_000))
        };
        assert_eq!(
            [at(5), at(120), at(7_200), at(200_000), at(-90_000)],
            ["5s", "2m", "2h", "2d", "in 1d"]
        );
    }

    #[test]
    fn a_long_directory_keeps_its_end() {
        let output = Output { json: false, columns: Some(80) };
        assert_eq!(output.dir("/home/me/work", Some("/home/me")), "~/work");
        assert_eq!(output.dir("/home/mean", Some("/home/me")), "/home/mean");
        let long = "/srv/some/deep/tree/of/directories/project";
        assert_eq!(output.dir(long, None), "…/of/directories/project");
    }
}
