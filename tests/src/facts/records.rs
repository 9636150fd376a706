//! The kinds of records in transcripts, databases and streams, and their keys. Reads no text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};

use super::{Machine, files};

/// The keys of an object with more entries than this are not names but data.
const KEYS_MAX: usize = 40;

/// Keys by kind of record.
type Kinds = BTreeMap<String, BTreeSet<String>>;

/// Returns the kinds of records in every file that has appeared, by the normal name of the file.
pub(super) fn gather(machine: &Machine) -> Value {
    let mut found: BTreeMap<String, Kinds> = BTreeMap::new();
    for path in files::all(&machine.sandbox) {
        if machine.before.contains(&path) {
            continue;
        }
        let kinds = found.entry(files::normal(&machine.sandbox, [&path]).concat()).or_default();
        match path.extension().and_then(|it| it.to_str()) {
            Some("jsonl") => add_lines(&path, kinds),
            Some("db" | "sqlite") => drop(add_tables(&path, kinds)),
            _ => {}
        }
    }
    found.retain(|_, kinds| !kinds.is_empty());
    let words = |kinds: Kinds| -> Map<String, Value> {
        let joined = |keys: BTreeSet<String>| keys.into_iter().collect::<Vec<_>>().join(" ");
        kinds.into_iter().map(|(kind, keys)| (kind, json!(joined(keys)))).collect()
    };
    let sheet = found.into_iter().map(|(name, kinds)| (name, Value::Object(words(kinds))));
    Value::Object(sheet.collect())
}

/// Returns the kinds of the events in a stream, which may be one document.
pub(super) fn kinds(stream: &str) -> BTreeSet<String> {
    let events = stream.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.map(|event| kind(&event)).collect()
}

/// Returns the keys of a file that is a JSON object.
pub(super) fn keys_of_file(path: &Path) -> Option<String> {
    let object: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let keys = keys(&object);
    (!keys.is_empty()).then(|| keys.into_iter().collect::<Vec<_>>().join(" "))
}

fn add_lines(path: &Path, kinds: &mut Kinds) {
    let text = fs::read_to_string(path).unwrap_or_default();
    for record in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        kinds.entry(kind(&record)).or_default().extend(keys(&record));
    }
}

/// Adds the columns of every table that has rows, and the records in its columns that are JSON.
fn add_tables(path: &Path, kinds: &mut Kinds) -> rusqlite::Result<()> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut names = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in names {
        let Ok(mut rows) = database.prepare(&format!("SELECT * FROM \"{table}\"")) else {
            continue;
        };
        let columns: Vec<_> = rows.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            kinds.entry(table.clone()).or_default().extend(columns.iter().cloned());
            for (place, column) in columns.iter().enumerate() {
                let ValueRef::Text(text) = row.get_ref(place)? else { continue };
                let Ok(record @ Value::Object(_)) = serde_json::from_slice(text) else { continue };
                let kind = format!("{table}.{column}/{}", kind(&record));
                kinds.entry(kind).or_default().extend(keys(&record));
            }
        }
    }
    Ok(())
}

/// Returns the name of a record's kind: its type, and that of what it holds.
fn kind(record: &Value) -> String {
    let own = record["type"].as_str().or_else(|| record["role"].as_str());
    let own = own.map(str::to_owned).or_else(|| {
        let first = record.as_object()?.keys().find(|key| key.starts_with('$'));
        first.cloned()
    });
    let inner = ["payload", "attachment", "item"].map(|key| record[key]["type"].as_str());
    let inner = record["subtype"].as_str().or_else(|| inner.into_iter().flatten().next());
    let own = own.unwrap_or_else(|| "(no type)".to_owned());
    inner.map_or(own.clone(), |inner| format!("{own}/{inner}"))
}

/// Returns the keys of a record, and those of the objects in it.
fn keys(record: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, value) in record.as_object().into_iter().flatten() {
        let key = name(key);
        let inner = value.as_object().filter(|inner| inner.len() <= KEYS_MAX);
        found.extend(inner.into_iter().flat_map(Map::keys).map(|it| format!("{key}.{}", name(it))));
        found.insert(key);
    }
    found
}

/// Returns a key, in its normal form; one that is a path is not told.
fn name(key: &str) -> String {
    if key.contains('/') || key.contains(' ') { "<data>".to_owned() } else { files::word(key) }
}
