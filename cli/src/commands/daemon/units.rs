//! The unit files that `install` writes. The first line of each is a checksum of the rest, which
//! tells a file that was edited by hand from one that an earlier version has written.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sessd_proto::Environment;
use uuid::Uuid;

use crate::systemd::{SERVICE, SOCKET};

const SOCKET_TEXT: &str = include_str!("../../../../systemd/sessd.socket");
const SERVICE_TEXT: &str = include_str!("../../../../systemd/sessd.service");

/// Environment variables that decide where the daemon finds programs, registry and configuration.
const RECORDED: &[&str] = &["PATH", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "SESSD_CONFIG"];

/// Start of the line with the checksum.
const SEAL: &str = "# Written by `sessctl daemon install`, seal ";

/// A file in the directory of the user's units.
#[derive(Debug)]
pub(super) struct UnitFile {
    pub(super) path: PathBuf,
    text: String,
}

/// Comparison of a file on disk with the one to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It does not exist.
    Missing,
    /// It is identical.
    Same,
    /// It was written by another version, or in another environment.
    Earlier,
    /// It was edited or made by hand.
    Edited,
}

/// Returns every file to write, the socket unit first.
pub(super) fn all(dir: &Path, program: &Path, env: &Environment) -> [UnitFile; 3] {
    let exec = format!("ExecStart={} --foreground", quoted(&program.to_string_lossy()));
    let line = |line| if str::starts_with(line, "ExecStart=") { &*exec } else { line };
    let service = SERVICE_TEXT.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
    let recorded = RECORDED.iter().filter_map(|name| Some((name, env.get(name)?)));
    let recorded = recorded
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))));
    let environment = "[Service]\n".to_owned() + &recorded.collect::<String>();
    let file =
        |name: &str, text: &str| UnitFile { path: dir.join(name), text: with_checksum(text) };
    [
        file(SOCKET, SOCKET_TEXT),
        file(SERVICE, &service),
        file(&format!("{SERVICE}.d/10-installed.conf"), &environment),
    ]
}

impl UnitFile {
    /// Returns the text to write.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Compares it with the file on disk.
    pub(super) fn compare(&self) -> io::Result<Found> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
            Ok(text) if text == self.text => Ok(Found::Same),
            Ok(text) if is_sealed(&text) => Ok(Found::Earlier),
            Ok(_) => Ok(Found::Edited),
        }
    }

    /// Writes it atomically, because systemd may read it at any time.
    pub(super) fn write(&self) -> io::Result<()> {
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
        let partial = self.path.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(self.text.as_bytes())?;
        fs::rename(partial, &self.path)
    }

    /// Removes it, and its drop-in directory if that is empty now.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        if let Some(dir) = self.path.parent().filter(|dir| dir.extension().is_some()) {
            // Fails while the user's own drop-ins are in it.
            let _ = fs::remove_dir(dir);
        }
        Ok(())
    }
}

fn with_checksum(text: &str) -> String {
    format!("{SEAL}{}\n{text}", seal(text))
}

fn is_sealed(file: &str) -> bool {
    let rest = file.strip_prefix(SEAL).and_then(|rest| rest.split_once('\n'));
    rest.is_some_and(|(found, text)| found == seal(text).to_string())
}

fn seal(text: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}

/// Quotes a word for a unit file, with specifiers escaped.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            _ => text.push(character),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_unit_files() {
        assert_eq!(quoted(r#"/a b/100%/"x"\"#), r#""/a b/100%%/\"x\"\\""#);
    }

    #[test]
    fn an_edited_file_fails_its_checksum() {
        let text = with_checksum("[Service]\nExecStart=/x\n");
        assert!(is_sealed(&text));
        assert!(!is_sealed(&text.replace("/x", "/y")));
        assert!(!is_sealed("[Service]\n"));
    }

    #[test]
    fn program_and_environment_are_filled_in() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = Environment([set("PATH", "/a:/b c"), set("HOME", "/h")].into());
        let [_, service, environment] = all(Path::new("/u"), Path::new("/opt/sessd"), &env);
        assert!(service.text().contains("\nExecStart=\"/opt/sessd\" --foreground\n"));
        assert!(!service.text().contains("%h"));
        assert!(environment.text().ends_with("\n[Service]\nEnvironment=\"PATH=/a:/b c\"\n"));
    }
}
