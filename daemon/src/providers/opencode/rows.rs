//! Reads the rows of sessions, in every version of the tables that has the columns we need. Knows
//! neither homes nor processes.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::{Connection, OptionalExtension, Statement};
use serde::de::IgnoredAny;
use serde_json::Value;
use sessd_proto::{Facts, Kind, Reason, Timestamp};

use super::{messages, tables};

use crate::providers::title::{Best, Noise};
use crate::providers::{Found, Stamp, Verdict, record};

/// The prefixes of the names of sessions without a title.
const UNTITLED: [&str; 2] = ["New session - ", "Child session - "];

/// The beginning of every id that the CLI accepts.
const ID_PREFIX: &str = "ses";

/// Parts of messages that are searched for a prompt.
const PARTS_MAX: u32 = 8;

/// Last messages that are searched for a prompt.
const MESSAGES_MAX: u32 = 200;

const NOISE: Noise = Noise { elements: &["system-reminder"], passages: &[] };

/// The row of a session.
#[derive(Hash)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) has_messages: bool,
    pub(super) directory: String,
    pub(super) created: i64,
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
    /// Returns the fingerprint: every change of a session changes its row.
    pub(super) fn stamp(&self) -> Stamp {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let mtime_ns = self.updated.saturating_mul(1_000_000);
        Stamp { size: hasher.finish(), mtime_ns, inode: 0 }
    }

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

    /// True if it was started at a terminal.
    pub(super) fn is_interactive(&self) -> bool {
        self.kind() == Kind::Interactive
    }

    /// Returns the kind of session. In one-shot runs the rules forbid the CLI to ask questions.
    fn kind(&self) -> Kind {
        let permission = self.permission.as_deref().map(serde_json::from_str::<Value>);
        let rules = match permission {
            Some(Ok(Value::Array(rules))) => rules,
            _ => Vec::new(),
        };
        let is_mute = |rule: &Value| rule["permission"] == "question" && rule["action"] == "deny";
        match &self.parent {
            Some(_) => Kind::Subagent,
            None if rules.iter().any(is_mute) => Kind::Headless,
            None => Kind::Interactive,
        }
    }
}

/// Returns every session whose row can be read.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    select(connection, "")?
        .query_map([], row)?
        .filter_map(|row| unless_odd(row).transpose())
        .collect()
}

/// Returns the session with this id.
pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Row>> {
    select(connection, "WHERE id = ?1")?.query_row([id], row).optional()
}

/// Returns the metadata of the sessions with these ids.
pub(super) fn found(connection: &Connection, ids: &[&str]) -> rusqlite::Result<Vec<Option<Found>>> {
    let mut statement = select(connection, "WHERE id = ?1")?;
    let mut read = |id: &&str| {
        let row = statement.query_row([id], row).optional()?;
        row.filter(|row| row.has_messages).map(|row| described(connection, row)).transpose()
    };
    ids.iter().map(|id| Ok(unless_odd(read(id))?.flatten())).collect()
}

/// Turns the error of a row with a value of an unexpected type into `None`, so that one such row
/// does not hide the others. `by_id` keeps the error, so that the session is never taken for gone.
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

/// Reads the columns of [`Row`]; those that another version does not have are null.
fn select<'c>(connection: &'c Connection, condition: &str) -> rusqlite::Result<Statement<'c>> {
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info('session')")?;
    let columns = columns.query_map([], |row| row.get(0))?;
    let columns: Vec<String> = columns.collect::<rusqlite::Result<_>>()?;
    let optional = ["title", "parent_id", "model", "permission", "time_archived", "revert"];
    let optional = optional.map(|name| match columns.iter().any(|column| column == name) {
        true => name,
        false => "NULL",
    });
    let is_superseded = tables::are_superseded(connection)?;
    connection.prepare(&format!(
        "SELECT id, EXISTS (SELECT 1 FROM message WHERE session_id = session.id),
             directory, time_created, time_updated, {}, {is_superseded}
         FROM session {condition}",
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
    let title = match named.and_then(record::title) {
        Some(title) => Some(title),
        None => first_prompt(connection, &row.id)?,
    };
    let last_prompt = last_prompt(connection, &row.id)?;
    let model = match value(row.model.as_deref(), "id") {
        Some(model) => Some(model),
        None => last_model(connection, &row.id)?,
    };
    let (kind, verdict) = (row.kind(), messages::judge(connection, &row, messages::SOME)?);
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

/// Returns a text in a JSON object; `None` if it is missing or the JSON is garbage.
fn value(json: Option<&str>, name: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json?).ok()?;
    value[name].as_str().map(str::to_owned)
}

fn first_prompt(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT p.data FROM message m JOIN part p ON p.message_id = m.id
         WHERE m.session_id = ?1 ORDER BY m.time_created, m.id, p.id LIMIT ?2",
    )?;
    let parts = statement.query_map((id, PARTS_MAX), |row| row.get(0))?;
    Ok(typed(parts.collect::<rusqlite::Result<_>>()?))
}

fn last_prompt(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let mut messages = connection.prepare_cached(
        "SELECT id, data FROM message WHERE session_id = ?1
         ORDER BY time_created DESC, id DESC LIMIT ?2",
    )?;
    let mut parts = connection
        .prepare_cached("SELECT data FROM part WHERE message_id = ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = messages.query((id, MESSAGES_MAX))?;
    while let Some(row) = rows.next()? {
        let data: Option<String> = row.get("data")?;
        if value(data.as_deref(), "role").as_deref() != Some("user") {
            continue;
        }
        let message: String = row.get("id")?;
        let found = parts.query_map((message, PARTS_MAX), |row| row.get(0))?;
        if let Some(prompt) = typed(found.collect::<rusqlite::Result<_>>()?) {
            return Ok(Some(prompt));
        }
    }
    Ok(None)
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
    let mut statement = connection.prepare_cached(
        "SELECT data FROM message WHERE session_id = ?1 ORDER BY time_created DESC, id DESC",
    )?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let data: Option<String> = row.get(0)?;
        if let Some(model) = value(data.as_deref(), "modelID") {
            return Ok(Some(model));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_row_hides_no_other_and_is_not_taken_for_gone() {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE session (id, directory, time_created, time_updated, title);
            CREATE TABLE message (id, session_id, time_created, data);
            CREATE TABLE part (id, message_id, data);
            INSERT INTO message SELECT column1, column1, 1, column2
                FROM (VALUES ('well', '{}'), ('null', '{}'), ('real', '{}'), ('blob', x'ff'));
            INSERT INTO session VALUES ('null', NULL, 1, 1, 't'), ('real', '/w', 1.5, 1, 't'),
                ('blob', '/w', 1, 1, 't'), ('well', '/w', 1, 1, 't'), (x'ff', '/w', 1, 1, 't');";
        connection.execute_batch(tables).unwrap();
        let ids: Vec<_> = all(&connection).unwrap().into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["blob", "well"]);
        let found = found(&connection, &["null", "real", "blob", "well", "gone"]).unwrap();
        let titles: Vec<_> = found.into_iter().map(|it| it.and_then(|it| it.facts.title)).collect();
        assert_eq!(titles, [None, None, None, Some("t".to_owned()), None]);
        assert!(by_id(&connection, "null").is_err() && by_id(&connection, "real").is_err());
    }
}
