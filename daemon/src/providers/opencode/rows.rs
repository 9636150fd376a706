//! Reads the rows of sessions, in every version of the tables that has the columns we need. Knows
//! neither homes nor processes.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement};
use serde::de::IgnoredAny;
use serde_json::Value;
use sessd_proto::{Facts, Kind, Reason, Timestamp};

use super::{messages, tables};
use crate::providers::sqlite::{self, up_to};
use crate::providers::title::{Best, Noise};
use crate::providers::{Found, Stamp, Verdict, record};

/// The prefixes of the names of sessions without a title.
const UNTITLED: [&str; 2] = ["New session - ", "Child session - "];

/// The beginning of every id that the CLI accepts.
const ID_PREFIX: &str = "ses";

/// Parts of messages that are searched for a prompt.
const PARTS_MAX: u32 = 8;

/// Last messages that are searched for a prompt and for the model.
const MESSAGES_MAX: u32 = 200;

const NOISE: Noise = Noise { elements: &["system-reminder"], passages: &[] };

/// The tables that are read.
pub(super) const TABLES: &[&str] = &["session", "message", "part"];

/// Longest id and longest directory that are read, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// Longest title, and longest JSON beside it, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Longest part of a message that is searched for a prompt, and longest message, in bytes.
const PART_BYTES_MAX: usize = 1 << 20;

/// Steps of SQLite that the prompts of one session may take.
const SESSION_STEPS_MAX: u32 = 20_000_000;

/// A session in the listing.
pub(super) struct Brief {
    pub(super) id: String,
    pub(super) stamp: Stamp,
    pub(super) has_messages: bool,
    pub(super) directory: String,
    pub(super) created: i64,
    /// True if it was started at a terminal.
    pub(super) is_interactive: bool,
}

/// The row of a session.
pub(super) struct Row {
    pub(super) id: String,
    has_messages: bool,
    directory: String,
    created: i64,
    updated: i64,
    title: Option<String>,
    parent: Option<String>,
    /// JSON.
    model: Option<String>,
    /// JSON: the rules about what it may do without asking.
    permission: Option<String>,
    archived: Option<i64>,
    /// JSON: what was undone.
    revert: Option<String>,
    /// True if tables of a newer version hold sessions too.
    is_superseded: bool,
}

impl Row {
    /// Returns the verdict that the row itself allows. The CLI would start a session without
    /// messages as a new one.
    pub(super) fn judge(&self) -> Verdict {
        let json = [&self.model, &self.permission, &self.revert];
        let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        Verdict::of(match () {
            () if self.is_superseded => Reason::NewerFormat,
            () if !self.id.starts_with(ID_PREFIX) => Reason::MalformedId,
            () if !self.has_messages => Reason::EmptyTranscript,
            () if self.created < 0 || self.updated < 0 => Reason::RecordBroken,
            () if !json.into_iter().flatten().all(|text| is_json(text)) => Reason::RecordBroken,
            () if self.archived.is_some() => Reason::ArchivedByProvider,
            () => return Verdict::ACTIVE,
        })
    }
}

/// Returns the kind of a session. In one-shot runs the rules forbid the CLI to ask questions.
fn kind(is_child: bool, permission: Option<&str>) -> Kind {
    let rules = match permission.map(serde_json::from_str::<Value>) {
        Some(Ok(Value::Array(rules))) => rules,
        _ => Vec::new(),
    };
    let is_mute = |rule: &Value| rule["permission"] == "question" && rule["action"] == "deny";
    match is_child {
        true => Kind::Subagent,
        false if rules.iter().any(is_mute) => Kind::Headless,
        false => Kind::Interactive,
    }
}

/// Returns every session whose id can be read.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Brief>> {
    let mut statement = select(connection, "")?;
    let briefs = statement.query_map([], |row| unless_odd(brief(row)))?;
    briefs.filter_map(Result::transpose).collect()
}

/// Reads a row, also one with values of an unexpected type: the session is then listed, and its
/// verdict says that it cannot be read.
fn brief(row: &rusqlite::Row<'_>) -> rusqlite::Result<Brief> {
    // Every change of a session changes its row.
    let mut hasher = DefaultHasher::new();
    for index in 0..row.as_ref().column_count() {
        hash(row.get_ref(index)?, &mut hasher);
    }
    let updated: i64 = row.get(4).unwrap_or_default();
    let is_child = row.get_ref(6)? != ValueRef::Null;
    let permission: Option<String> = row.get(8).unwrap_or_default();
    Ok(Brief {
        id: row.get(0)?,
        stamp: Stamp {
            size: hasher.finish(),
            mtime_ns: updated.saturating_mul(1_000_000),
            inode: 0,
        },
        has_messages: row.get(1)?,
        directory: row.get(2).unwrap_or_default(),
        created: row.get(3).unwrap_or_default(),
        is_interactive: kind(is_child, permission.as_deref()) == Kind::Interactive,
    })
}

fn hash(value: ValueRef<'_>, into: &mut DefaultHasher) {
    match value {
        ValueRef::Null => 0.hash(into),
        ValueRef::Integer(number) => (1, number).hash(into),
        ValueRef::Real(number) => (2, number.to_bits()).hash(into),
        ValueRef::Text(bytes) => (3, bytes).hash(into),
        ValueRef::Blob(bytes) => (4, bytes).hash(into),
    }
}

/// Returns the session with this id; `None` if there is none.
pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Row>> {
    select(connection, "WHERE id = ?1")?.query_row([id], row).optional()
}

/// Returns the verdict on the session with this id; `None` if there is none.
pub(super) fn check(connection: &Connection, id: &str) -> rusqlite::Result<Option<Verdict>> {
    match unless_odd(by_id(connection, id))? {
        Some(row) => row.map(|row| judge(connection, &row, messages::ALL)).transpose(),
        None => Ok(Some(Verdict::UNREADABLE)),
    }
}

/// Returns the verdict on a row and on so many of its last messages, unless these are too many or
/// too long to be judged.
fn judge(connection: &Connection, row: &Row, limit: u32) -> rusqlite::Result<Verdict> {
    let verdict = unless_too_much(messages::judge(connection, row, limit).map(Some))?;
    Ok(verdict.unwrap_or_else(|| row.judge()))
}

/// Returns the metadata of the sessions with these ids.
pub(super) fn found(connection: &Connection, ids: &[&str]) -> rusqlite::Result<Vec<Option<Found>>> {
    let mut statement = select(connection, "WHERE id = ?1")?;
    let read = |id: &&str| {
        sqlite::allow_steps(connection, SESSION_STEPS_MAX)?;
        let row = unless_odd(statement.query_row([id], row).optional())?;
        match row {
            Some(row) => {
                let row = row.filter(|row| row.has_messages);
                row.map(|row| described(connection, row)).transpose()
            }
            None => Ok(Some(unreadable(id))),
        }
    };
    ids.iter().map(read).collect()
}

/// Returns a session of which no more is known than that it is there.
fn unreadable(id: &str) -> Found {
    let facts = Facts { provider_session_id: id.to_owned(), ..Facts::default() };
    Found { facts, verdict: Verdict::UNREADABLE, ..Found::default() }
}

/// Turns the error of a row with a value of an unexpected type into `None`, so that one such row
/// does not hide the others.
fn unless_odd<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    use rusqlite::Error;
    match read {
        Err(
            Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..),
        ) => Ok(None),
        read => read.map(Some),
    }
}

/// Reads the columns of [`Row`]; those that another version does not have are null, and so are
/// values that are too long.
fn select<'c>(connection: &'c Connection, condition: &str) -> rusqlite::Result<Statement<'c>> {
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info('session')")?;
    let columns = columns.query_map([], |row| row.get(0))?;
    let columns: Vec<String> = columns.collect::<rusqlite::Result<_>>()?;
    let optional = [
        ("title", TEXT_BYTES_MAX),
        ("parent_id", PATH_BYTES_MAX),
        ("model", TEXT_BYTES_MAX),
        ("permission", TEXT_BYTES_MAX),
        ("time_archived", PATH_BYTES_MAX),
        ("revert", TEXT_BYTES_MAX),
    ];
    let optional = optional.map(|(name, bytes)| match columns.iter().any(|it| it == name) {
        true => up_to(bytes, name),
        false => "NULL".to_owned(),
    });
    let is_superseded = tables::are_superseded(connection)?;
    connection.prepare(&format!(
        "SELECT {}, EXISTS (SELECT 1 FROM message WHERE session_id = session.id),
             {}, time_created, time_updated, {}, {is_superseded}
         FROM session {condition}",
        up_to(PATH_BYTES_MAX, "id"),
        up_to(PATH_BYTES_MAX, "directory"),
        optional.join(", "),
    ))
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        has_messages: row.get(1)?,
        directory: row.get(2)?,
        created: row.get(3)?,
        updated: row.get(4)?,
        title: row.get(5)?,
        parent: row.get(6)?,
        model: row.get(7)?,
        permission: row.get(8)?,
        archived: row.get(9)?,
        revert: row.get(10)?,
        is_superseded: row.get(11)?,
    })
}

fn described(connection: &Connection, row: Row) -> rusqlite::Result<Found> {
    let named =
        row.title.as_deref().filter(|title| UNTITLED.iter().all(|it| !title.starts_with(it)));
    // What would take too many steps to find is left out.
    let title = match named.and_then(record::title) {
        Some(title) => Some(title),
        None => unless_too_much(first_prompt(connection, &row.id))?,
    };
    let last_prompt = unless_too_much(last_prompt(connection, &row.id))?;
    let model = match value(row.model.as_deref(), "id") {
        Some(model) => Some(model),
        None => unless_too_much(last_model(connection, &row.id))?,
    };
    let kind = kind(row.parent.is_some(), row.permission.as_deref());
    let verdict = judge(connection, &row, messages::SOME)?;
    let facts = Facts {
        scope: String::new(),
        kind,
        launch_dir: row.directory.clone(),
        cwd: Some(row.directory),
        title,
        last_prompt,
        model: model.as_deref().and_then(record::title),
        git_branch: None,
        created_at: Timestamp(row.created),
        last_activity: Timestamp(row.updated),
        provider_session_id: row.id,
    };
    Ok(Found { facts, parent: row.parent, verdict, ..Found::default() })
}

fn unless_too_much<T>(read: rusqlite::Result<Option<T>>) -> rusqlite::Result<Option<T>> {
    match read {
        Err(error) if sqlite::is_too_much(&error) => Ok(None),
        read => read,
    }
}

/// Returns a text in a JSON object; `None` if it is missing or the JSON is garbage.
fn value(json: Option<&str>, name: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json?).ok()?;
    value[name].as_str().map(str::to_owned)
}

fn first_prompt(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM message m JOIN part p ON p.message_id = m.id
         WHERE m.session_id = ?1 ORDER BY m.time_created, m.id, p.id LIMIT ?2",
        up_to(PART_BYTES_MAX, "p.data"),
    ))?;
    let parts = statement.query_map((id, PARTS_MAX), part)?;
    Ok(typed(parts.collect::<rusqlite::Result<_>>()?))
}

fn last_prompt(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let mut messages = last_messages(connection)?;
    let mut parts = connection.prepare_cached(&format!(
        "SELECT {} FROM part WHERE message_id = ?1 ORDER BY id LIMIT ?2",
        up_to(PART_BYTES_MAX, "data"),
    ))?;
    let mut rows = messages.query((id, MESSAGES_MAX))?;
    while let Some(row) = rows.next()? {
        let data: Option<String> = row.get(1).unwrap_or_default();
        if value(data.as_deref(), "role").as_deref() != Some("user") {
            continue;
        }
        let Ok(message) = row.get::<_, String>(0) else { continue };
        let found = parts.query_map((message, PARTS_MAX), part)?;
        if let Some(prompt) = typed(found.collect::<rusqlite::Result<_>>()?) {
            return Ok(Some(prompt));
        }
    }
    Ok(None)
}

/// Returns the data of a part; `None` unless it is text.
fn part(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<String>> {
    Ok(row.get(0).unwrap_or_default())
}

/// Returns the ids and the data of the last messages of a session, last one first.
fn last_messages(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(&format!(
        "SELECT {}, {} FROM message WHERE session_id = ?1
         ORDER BY time_created DESC, id DESC LIMIT ?2",
        up_to(PATH_BYTES_MAX, "id"),
        up_to(PART_BYTES_MAX, "data"),
    ))
}

/// Returns the first text in the parts of messages that was typed, as a title.
fn typed(parts: Vec<Option<String>>) -> Option<String> {
    let mut best = Best::default();
    for part in parts.iter().flatten() {
        let part: Value = serde_json::from_str(part).unwrap_or_default();
        // What the CLI adds by itself, e.g. the content of a file that was named.
        let is_typed = part["synthetic"] != true && part["ignored"] != true;
        let text = part["text"].as_str().filter(|_| is_typed);
        best.add(text.and_then(|text| NOISE.prompt(text)));
        if best.is_final() {
            break;
        }
    }
    best.title()
}

fn last_model(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = last_messages(connection)?;
    let mut rows = statement.query((id, MESSAGES_MAX))?;
    while let Some(row) = rows.next()? {
        let data: Option<String> = row.get(1).unwrap_or_default();
        if let Some(model) = value(data.as_deref(), "modelID") {
            return Ok(Some(model));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
