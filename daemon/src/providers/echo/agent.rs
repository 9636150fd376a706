//! The built-in agent: the program that `sessd echo` runs. The only code of a provider that
//! writes: its transcripts and its output.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::json;

use super::transcript::{Record, Role, records};

/// Runs the agent: answers standard input, as one prompt (`once`) or line by line.
///
/// # Errors
/// Fails if its transcript cannot be read or written, on an error of standard input or output, and
/// for an empty prompt.
pub fn converse(home: &Path, id: &str, once: bool) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    let path = home.join(format!("{id}.jsonl"));
    if once { answer_once(&path, id) } else { answer_lines(&path) }
}

fn answer_once(path: &Path, id: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt)?;
    if prompt.trim().is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the prompt is empty"));
    }
    writeln!(out, "{}", json!({ "type": "started", "data": { "provider_session_id": id } }))?;
    let answer = answer(path, prompt.trim_end(), false)?;
    writeln!(out, "{}", json!({ "type": "text", "text": answer }))?;
    writeln!(out, "{}", json!({ "type": "result", "text": answer }))
}

fn answer_lines(path: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for record in records(path)? {
        let mark = if record.role == Role::User { "> " } else { "" };
        writeln!(out, "{mark}{}", record.text)?;
    }
    let mut prompts = io::stdin().lock().lines();
    loop {
        write!(out, "> ")?;
        out.flush()?;
        match prompts.next() {
            None => return writeln!(out),
            Some(prompt) => writeln!(out, "{}", answer(path, &prompt?, true)?)?,
        }
    }
}

/// Appends a prompt and its answer to the transcript; returns the answer.
fn answer(path: &Path, prompt: &str, typed: bool) -> io::Result<String> {
    let earlier = records(path)?;
    let prompts = || earlier.iter().filter(|record| record.role == Role::User);
    let first = prompts().next().map_or(prompt, |record| &record.text);
    let text = format!("turn {}, and you began with: {first}", prompts().count() + 1);
    let cwd = std::env::current_dir()?.to_string_lossy().into_owned();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    for (role, text) in [(Role::User, prompt), (Role::Echo, &text)] {
        let at = crate::clock::now();
        let record = Record { at, cwd: cwd.clone(), role, text: text.to_owned(), typed };
        let line = serde_json::to_string(&record).map_err(io::Error::other)?;
        file.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(text)
}
