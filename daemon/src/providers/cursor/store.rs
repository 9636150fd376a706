//! Reads a chat's store and the description beside it. Knows neither homes nor folders.
//!
//! A chat's encryption key is in the same record as its title: that record is parsed into a struct
//! without a field for the key, so that it can get nowhere.

use std::collections::VecDeque;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use serde_json::Value;

use crate::providers::sqlite::{self, up_to};
use crate::providers::title::{Best, Noise};
use crate::providers::{Unreadable, file};

/// The name of a chat without a title.
const UNNAMED: &str = "New Agent";

/// Leaves that are searched for a prompt or for a model.
const LEAVES_MAX: usize = 32;

/// Nested lists of leaves that are followed.
const DEPTH_MAX: usize = 16;

/// Lists that are read: one may be in another any number of times.
const LISTS_MAX: usize = 256;

/// Longest record, list or message that is read, in bytes; the id of a leaf has 34 in a list.
const BLOB_BYTES_MAX: usize = 4 << 20;

/// The conversation, as far as metadata needs it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chat {
    /// In milliseconds; another chat under the same id has another time.
    pub(super) created_at: Option<i64>,
    pub(super) model: Option<String>,
    /// The directory it was started in.
    pub(super) workspace: Option<String>,
    /// The first prompt, as a title.
    pub(super) prompt: Option<String>,
    /// The last prompt, as a title.
    pub(super) last_prompt: Option<String>,
    pub(super) has_prompt: bool,
    /// True if the root list of messages exists.
    pub(super) has_root: bool,
    name: Option<String>,
}

/// The description: the file `meta.json` beside the store.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Described {
    #[serde(rename = "createdAtMs")]
    pub(super) created_at: Option<i64>,
    #[serde(rename = "updatedAtMs")]
    pub(super) updated_at: Option<i64>,
    pub(super) has_conversation: bool,
    pub(super) cwd: Option<String>,
    pub(super) title: Option<String>,
    pub(super) is_subagent: bool,
}

impl Described {
    pub(super) fn of(store: &Path) -> Self {
        let text = file::settings(&store.with_file_name("meta.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// The chat's own record in the store.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    latest_root_blob_id: String,
    name: Option<String>,
    created_at: Option<i64>,
    last_used_model: Option<String>,
}

impl Chat {
    pub(super) fn read(store: &Path) -> Result<Self, Unreadable> {
        sqlite::read(store, &["meta", "blobs"], Self::of)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| *name != UNNAMED)
    }

    /// Returns the scope, which tells it from another chat of the same id.
    pub(super) fn scope(&self) -> String {
        self.created_at.map(|at| at.to_string()).unwrap_or_default()
    }

    fn of(store: &Connection) -> rusqlite::Result<Self> {
        let meta = meta(store)?;
        let mut chat = Self {
            created_at: meta.created_at,
            model: meta.last_used_model,
            name: meta.name,
            ..Self::default()
        };
        match blob(store, &meta.latest_root_blob_id)? {
            Blob::Missing => {}
            // It names more messages than are read, and certainly some.
            Blob::TooLong => (chat.has_root, chat.has_prompt) = (true, true),
            Blob::Bytes(root) => {
                chat.has_root = true;
                chat.add(store, &root)?;
            }
        }
        Ok(chat)
    }

    fn add(&mut self, store: &Connection, root: &[u8]) -> rusqlite::Result<()> {
        let place = fields(root).find(|(number, _)| *number == 9).map(|(_, bytes)| bytes);
        let place = place.and_then(|bytes| std::str::from_utf8(bytes).ok());
        self.workspace = place.and_then(|url| url.strip_prefix("file://")).map(str::to_owned);
        let mut leaves = Leaves::default();
        leaves.collect(store, root, DEPTH_MAX)?;
        for id in &leaves.first {
            let Some(leaf) = leaf(store, id)? else {
                // Be it a prompt or an answer, there is something to continue from.
                self.has_prompt = true;
                continue;
            };
            if leaf["role"] == "user" {
                self.has_prompt = true;
                self.prompt = prompt(&leaf["content"]);
            }
            if self.prompt.is_some() {
                break;
            }
        }
        for id in leaves.last.iter().rev() {
            if self.model.is_some() && self.last_prompt.is_some() {
                break;
            }
            let leaf = leaf(store, id)?.unwrap_or_default();
            let model = leaf["providerOptions"]["cursor"]["modelName"].as_str();
            self.model = self.model.take().or(model.map(str::to_owned));
            if leaf["role"] == "user" && self.last_prompt.is_none() {
                self.last_prompt = prompt(&leaf["content"]);
            }
        }
        Ok(())
    }
}

/// Reads the chat's own record, which is JSON, in some versions in hexadecimal digits.
fn meta(store: &Connection) -> rusqlite::Result<Meta> {
    let value = up_to(BLOB_BYTES_MAX, "value");
    let row = format!("SELECT CAST({value} AS TEXT) FROM meta WHERE key = '0'");
    let value: Option<Option<String>> = store.query_row(&row, (), |row| row.get(0)).optional()?;
    let value = value.flatten().unwrap_or_default();
    let bytes = if value.starts_with('{') { value.into_bytes() } else { unhex(&value) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A list or a message.
enum Blob {
    Missing,
    TooLong,
    Bytes(Vec<u8>),
}

fn blob(store: &Connection, id: &str) -> rusqlite::Result<Blob> {
    let data = up_to(BLOB_BYTES_MAX, "data");
    let row = format!("SELECT CAST({data} AS BLOB) FROM blobs WHERE id = ?1");
    let found = store.prepare_cached(&row)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(match found {
        None => Blob::Missing,
        Some(None) => Blob::TooLong,
        Some(Some(bytes)) => Blob::Bytes(bytes),
    })
}

/// The ids of the first and of the last leaves of a chat, in their order.
#[derive(Default)]
struct Leaves {
    first: Vec<String>,
    last: VecDeque<String>,
    lists: usize,
}

impl Leaves {
    /// Adds all leaves below a list.
    fn collect(&mut self, store: &Connection, list: &[u8], depth: usize) -> rusqlite::Result<()> {
        for (number, id) in fields(list).filter(|(_, bytes)| bytes.len() == 32) {
            match number {
                1 => self.add(hex(id)),
                2 if depth > 0 && self.lists < LISTS_MAX => {
                    self.lists += 1;
                    if let Blob::Bytes(below) = blob(store, &hex(id))? {
                        self.collect(store, &below, depth - 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, id: String) {
        if self.first.len() < LEAVES_MAX {
            self.first.push(id.clone());
        }
        if self.last.len() == LEAVES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(id);
    }
}

/// Returns a message, null if it is missing or unreadable; `None` if it is too long. Some have
/// bytes around the JSON.
fn leaf(store: &Connection, id: &str) -> rusqlite::Result<Option<Value>> {
    let bytes = match blob(store, id)? {
        Blob::Missing => Vec::new(),
        Blob::TooLong => return Ok(None),
        Blob::Bytes(bytes) => bytes,
    };
    let start = memchr::memchr(b'{', &bytes).unwrap_or(bytes.len());
    let mut values = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter();
    Ok(Some(values.next().and_then(Result::ok).unwrap_or_default()))
}

/// Returns the typed prompt, as a title: the CLI wraps it in an element and adds other elements.
fn prompt(content: &Value) -> Option<String> {
    const NOISE: Noise = Noise { elements: &["system_reminder", "system-reminder"], passages: &[] };
    let blocks = content.as_array().into_iter().flatten();
    let mut texts = blocks.filter_map(|block| block["text"].as_str()).chain(content.as_str());
    texts.find_map(|text| {
        let typed = match text.split_once("<user_query>") {
            Some((_, rest)) => rest.split("</user_query>").next()?,
            None if text.trim_start().starts_with('<') => return None,
            None => text,
        };
        let mut best = Best::default();
        best.add(NOISE.prompt(typed));
        best.title()
    })
}

/// Returns the length-delimited fields of a protobuf message, as far as it can be read.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            match tag & 7 {
                0 => drop(varint(&mut message)?),
                2 => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    let (bytes, rest) = message.split_at_checked(length)?;
                    message = rest;
                    return Some((tag >> 3, bytes));
                }
                _ => return None,
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(number);
        }
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len() / 2).map_while(|at| text.get(2 * at..2 * at + 2));
    digits.map_while(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_read_as_far_as_possible() {
        let list = [&[10, 2, b'a', b'b', 80, 200, 1][..], &[74, 1, b'c'], &[10, 9, b'x']].concat();
        let found: Vec<_> = fields(&list).collect();
        assert_eq!(found, [(1, &b"ab"[..]), (9, b"c")]);
        assert_eq!(fields(&[255; 40]).count(), 0);
        assert_eq!(fields(&[9, 1]).count(), 0);
    }

    #[test]
    fn prompt_is_what_was_typed() {
        let seen = |text: &str| prompt(&Value::from(text));
        assert_eq!(seen("<user_query>\nhi\n</user_query>").as_deref(), Some("hi"));
        assert_eq!(seen("hi").as_deref(), Some("hi"));
        assert_eq!(seen("<timestamp>now</timestamp>"), None);
    }

    #[test]
    fn encryption_key_is_never_read() {
        let store = Connection::open_in_memory().unwrap();
        let meta = br#"{"latestRootBlobId":"","name":"n","blobEncryptionKey":"SECRET"}"#;
        let tables = "CREATE TABLE blobs (id TEXT, data BLOB); CREATE TABLE meta (key, value)";
        store.execute_batch(tables).unwrap();
        store.execute("INSERT INTO meta VALUES ('0', ?1)", [hex(meta)]).unwrap();
        let chat = Chat::of(&store).unwrap();
        assert_eq!(chat.name(), Some("n"));
        assert!(!format!("{chat:?}").contains("SECRET"));
    }
}
