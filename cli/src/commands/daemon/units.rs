//! The unit files as `install` writes them: their text, and a seal that tells a file which
//! somebody has edited from one that an earlier version has written.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sessd_proto::Environment;
use uuid::Uuid;

use crate::systemd::{SERVICE, SOCKET};

const SOCKET_TEXT: &str = include_str!("../../../../systemd/sessd.socket");
const SERVICE_TEXT: &str = include_str!("../../../../systemd/sessd.service");

/// What decides where the daemon looks for programs, and where its registry is.
const RECORDED: &[&str] = &["PATH", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "SESSD_CONFIG"];

/// Begins the line that seals a file.
const SEAL: &str = "# Written by `sessctl daemon install`, seal ";

/// A file of ours below the folder of the user's units.
#[derive(Debug)]
pub(super) struct UnitFile {
    pub(super) path: PathBuf,
    text: String,
}

/// What is on disk in a file's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Missing,
    /// What would be written.
    Same,
    /// What another version has written, or this one in another environment.
    Earlier,
    /// What somebody has edited or made.
    Edited,
}

/// Every file that is written, the socket's first.
pub(super) fn all(dir: &Path, program: &Path, env: &Environment) -> [UnitFile; 3] {
    let exec = format!("ExecStart={} --foreground", quoted(&program.to_string_lossy()));
    let line = |line| if str::starts_with(line, "ExecStart=") { &*exec } else { line };
    let service = SERVICE_TEXT.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
    let recorded = RECORDED.iter().filter_map(|name| Some((name, env.get(name)?)));
    let recorded = recorded
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))));
    let surroundings = "[Service]\n".to_owned() + &recorded.collect::<String>();
    let file = |name: &str, text: &str| UnitFile { path: dir.join(name), text: sealed(text) };
    [
        file(SOCKET, SOCKET_TEXT),
        file(SERVICE, &service),
        file(&format!("{SERVICE}.d/10-installed.conf"), &surroundings),
    ]
}

impl UnitFile {
    /// What is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Looks at what is on disk in its place.
    pub(super) fn found(&self) -> io::Result<Found> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
            Ok(text) if text == self.text => Ok(Found::Same),
            Ok(text) if is_sealed(&text) => Ok(Found::Earlier),
            Ok(_) => Ok(Found::Edited),
        }
    }

    /// Writes it as a whole: systemd may read it at any time.
    pub(super) fn write(&self) -> io::Result<()> {
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
        let partial = self.path.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(self.text.as_bytes())?;
        fs::rename(partial, &self.path)
    }

    /// Removes it, and its folder if that was made for it and is empty now.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        if let Some(dir) = self.path.parent().filter(|dir| dir.extension().is_some()) {
            // Somebody's own drop-ins stay.
            let _ = fs::remove_dir(dir);
        }
        Ok(())
    }
}

fn sealed(text: &str) -> String {
    format!("{SEAL}{}\n{text}", seal(text))
}

fn is_sealed(file: &str) -> bool {
    let rest = file.strip_prefix(SEAL).and_then(|rest| rest.split_once('\n'));
    rest.is_some_and(|(found, text)| found == seal(text).to_string())
}

fn seal(text: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}

/// A word as systemd reads it in a unit file: quoted, without specifiers.
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
    fn a_word_is_quoted_as_systemd_reads_it() {
        assert_eq!(quoted(r#"/a b/100%/"x"\"#), r#""/a b/100%%/\"x\"\\""#);
    }

    #[test]
    fn an_edited_file_has_lost_its_seal() {
        let text = sealed("[Service]\nExecStart=/x\n");
        assert!(is_sealed(&text));
        assert!(!is_sealed(&text.replace("/x", "/y")));
        assert!(!is_sealed("[Service]\n"));
    }

    #[test]
    fn the_program_and_the_surroundings_are_filled_in() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = Environment([set("PATH", "/a:/b c"), set("HOME", "/h")].into());
        let [_, service, surroundings] = all(Path::new("/u"), Path::new("/opt/sessd"), &env);
        assert!(service.text().contains("\nExecStart=\"/opt/sessd\" --foreground\n"));
        assert!(!service.text().contains("%h"));
        assert!(surroundings.text().ends_with("\n[Service]\nEnvironment=\"PATH=/a:/b c\"\n"));
    }
}
