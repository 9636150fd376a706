//! One odd input: a home of its own with a conversation in it, and the ways to damage that. Knows
//! no provider.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sessd_proto::{Reason, Session};

/// Damages a conversation.
pub(super) type Change = fn(&mut Case);

/// A way in which files get odd.
pub(super) struct Input {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) change: Change,
    /// The reason for which it is not active although the CLI goes on.
    pub(super) although: Option<Reason>,
}

/// Returns an input.
pub(super) const fn input(kind: &'static str, name: &'static str, change: Change) -> Input {
    Input { kind, name, change, although: None }
}

/// Returns an input that the CLI of the test goes on with, but that must not be called active.
pub(super) const fn although(
    reason: Reason,
    kind: &'static str,
    name: &'static str,
    change: Change,
) -> Input {
    Input { kind, name, change, although: Some(reason) }
}

/// A conversation in a home of its own.
pub(super) struct Case {
    /// The value of the variable that selects the home.
    pub(super) value: PathBuf,
    pub(super) home: PathBuf,
    pub(super) path: PathBuf,
    /// The id by which the CLI is asked to go on.
    pub(super) id: String,
    pub(super) project: PathBuf,
}

impl Case {
    pub(super) fn change(&mut self, input: &Input) {
        (input.change)(self);
    }

    /// True if a row of the list is this session.
    pub(super) fn is_of(&self, session: &Session) -> bool {
        Path::new(&session.home) == self.home
            && session.provider_session_id.as_deref() == Some(&self.id)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub(super) fn write(&self, bytes: impl AsRef<[u8]>) {
        fs::write(&self.path, bytes).unwrap();
    }

    /// Changes the bytes of the transcript.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes();
        change(&mut bytes);
        self.write(bytes);
    }

    /// Changes the lines of the transcript; each has its end.
    pub(super) fn lines(&self, change: impl FnOnce(&mut Vec<String>)) {
        let mut lines = self.text().split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        self.write(lines.concat());
    }

    /// Changes the records of the transcript.
    pub(super) fn records(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let text = self.text();
        let mut records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        change(&mut records);
        self.write(records.iter().map(|record| format!("{record}\n")).collect::<String>());
    }

    /// Changes each record of the transcript.
    pub(super) fn each(&self, change: impl Fn(&mut Value)) {
        self.records(|records| records.iter_mut().for_each(change));
    }

    /// Moves the transcript to another name in its folder.
    pub(super) fn rename(&mut self, name: &str) {
        let to = self.path.with_file_name(name);
        fs::rename(&self.path, &to).unwrap();
        self.path = to;
    }

    /// Moves the transcript out of the store; returns where it is.
    pub(super) fn put_aside(&self) -> PathBuf {
        let aside = self.value.join("aside");
        fs::rename(&self.path, &aside).unwrap();
        aside
    }
}

/// Removes a field of a record.
pub(super) fn remove(record: &mut Value, name: &str) {
    if let Some(record) = record.as_object_mut() {
        record.remove(name);
    }
}
