//! The stores of the Cursor CLI: one folder per chat, with a SQLite file whose blobs form the
//! conversation. Knows neither flags nor models.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::home;

/// The secret of a chat, which only the CLI may see.
const SECRET: &str = "KEY-THAT-MUST-NEVER-BE-SEEN";

/// A chat; its folder need not exist.
pub(crate) struct Chat {
    pub(crate) id: String,
    pub(crate) cwd: PathBuf,
    folder: PathBuf,
}

/// Writes one turn of a chat.
pub(crate) struct Writer<'a> {
    chat: &'a Chat,
    store: Connection,
    meta: Value,
    /// The leaves of the conversation, with the new prompt.
    leaves: Vec<[u8; 32]>,
}

impl Chat {
    /// Returns the chat with this id in any directory, else a new one in this directory.
    pub(crate) fn of(id: &str, cwd: &Path) -> Self {
        let folder = find(id).unwrap_or_else(|| chats().join(workspace(cwd)).join(id));
        Self { id: id.to_owned(), cwd: cwd.to_owned(), folder }
    }

    pub(crate) fn exists(id: &str) -> bool {
        find(id).is_some()
    }

    /// Makes the folder of the chat; the store is made with the first turn.
    pub(crate) fn begin(&self) {
        fs::create_dir_all(&self.folder).expect("our own directory");
        if !self.folder.join("meta.json").exists() {
            self.describe(None);
        }
    }

    /// Returns the roles and texts of the conversation, in order.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        if !self.folder.join("store.db").exists() {
            return Vec::new();
        }
        let store = self.open();
        let Some(meta) = meta(&store) else { return Vec::new() };
        let leaves = leaves(&store, &meta).into_iter().map(|leaf| blob(&store, &leaf));
        let values = leaves.map(|leaf| serde_json::from_slice(&leaf).unwrap_or_default());
        values
            .filter(|leaf: &Value| leaf["role"] != "system")
            .map(|leaf| {
                let text = leaf["content"][0]["text"].as_str().unwrap_or_default();
                let text = text.trim_start_matches("<user_query>\n");
                let text = text.trim_end_matches("\n</user_query>");
                (leaf["role"].as_str().unwrap_or_default().to_owned(), text.to_owned())
            })
            .collect()
    }

    /// Writes a prompt; until the answer is written the log of the store is not empty.
    pub(crate) fn write(&self, prompt: &str, model: &str) -> Writer<'_> {
        self.begin();
        let store = self.open();
        let schema = "PRAGMA user_version = 1;
            CREATE TABLE IF NOT EXISTS blobs (id TEXT PRIMARY KEY, data BLOB);
            CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)";
        store.execute_batch(schema).expect("our own store");
        let mut meta = meta(&store).unwrap_or_else(|| {
            json!({
                "agentId": self.id, "latestRootBlobId": "", "name": "New Agent",
                "mode": "default", "isRunEverything": false, "createdAt": now(),
                "blobEncryptionKey": SECRET,
            })
        });
        meta["lastUsedModel"] = json!(model);
        let mut leaves = leaves(&store, &meta);
        if leaves.is_empty() {
            leaves.push(put(&store, b"{\"role\":\"system\",\"content\":\"You are an agent.\"}"));
        }
        let query = format!("<user_query>\n{prompt}\n</user_query>");
        leaves.push(put(&store, leaf("user", &query).as_bytes()));
        Writer { chat: self, store, meta, leaves }
    }

    fn open(&self) -> Connection {
        let store = Connection::open(self.folder.join("store.db")).expect("our own store");
        let mode = "PRAGMA journal_mode = WAL";
        store.query_row(mode, (), |_| Ok(())).expect("our own store");
        store
    }

    fn describe(&self, title: Option<&str>) {
        let path = self.folder.join("meta.json");
        let old: Value = fs::read(&path)
            .ok()
            .and_then(|it| serde_json::from_slice(&it).ok())
            .unwrap_or_default();
        let first =
            |name: &str, new: Value| if old[name].is_null() { new } else { old[name].clone() };
        let has_conversation = title.is_some() || old["hasConversation"] == true;
        let new = json!({
            "schemaVersion": 1, "createdAtMs": first("createdAtMs", json!(now())),
            "updatedAtMs": now(), "hasConversation": has_conversation,
            "cwd": first("cwd", json!(self.cwd)), "title": first("title", json!(title)),
        });
        fs::write(&path, new.to_string()).expect("our own file");
    }
}

impl Writer<'_> {
    /// Writes the answer and closes the store, which empties its log.
    pub(crate) fn finish(mut self, answer: &str) {
        self.leaves.push(put(&self.store, leaf("assistant", answer).as_bytes()));
        let leaves = self.leaves.iter().flat_map(|leaf| field(1, leaf));
        let place = format!("file://{}", self.chat.cwd.display());
        let root: Vec<u8> = leaves.chain(field(9, place.as_bytes())).chain([10 << 3, 0]).collect();
        self.meta["latestRootBlobId"] = json!(hex(&put(&self.store, &root)));
        let value = hex(self.meta.to_string().as_bytes());
        let row = "INSERT OR REPLACE INTO meta VALUES ('0', ?1)";
        self.store.execute(row, [value]).expect("our own store");
        self.store.close().expect("our own store");
        let title = self.chat.messages().first().map(|(_, text)| text.clone());
        self.chat.describe(title.as_deref());
    }
}

/// One rule on every system: the variable, else the place for configurations, else the home.
fn chats() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = set("CURSOR_CONFIG_DIR");
    let folder = chosen.or_else(|| Some(set("XDG_CONFIG_HOME")?.join("cursor")));
    folder.unwrap_or_else(|| home().join(".cursor")).join("chats")
}

fn find(id: &str) -> Option<PathBuf> {
    let workspaces = fs::read_dir(chats()).ok()?.flatten();
    workspaces.map(|it| it.path().join(id)).find(|chat| chat.join("store.db").exists())
}

/// 32 hexadecimal digits made from the directory; no code may rely on which ones.
fn workspace(cwd: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    cwd.hash(&mut hasher);
    format!("{0:016x}{0:016x}", hasher.finish())
}

fn meta(store: &Connection) -> Option<Value> {
    let row = "SELECT value FROM meta WHERE key = '0'";
    let value: String = store.query_row(row, (), |row| row.get(0)).optional().ok()??;
    serde_json::from_slice(&unhex(&value)).ok()
}

fn leaves(store: &Connection, meta: &Value) -> Vec<[u8; 32]> {
    let id = unhex(meta["latestRootBlobId"].as_str().unwrap_or_default());
    let Ok(id) = <[u8; 32]>::try_from(id) else { return Vec::new() };
    let root = blob(store, &id);
    // Leaves come first, each 2 bytes of tag and length and 32 of id.
    let pieces = root.chunks_exact(34).take_while(|piece| piece[..2] == [10, 32]);
    pieces.map(|piece| piece[2..].try_into().expect("32 bytes")).collect()
}

fn blob(store: &Connection, id: &[u8; 32]) -> Vec<u8> {
    let row = "SELECT data FROM blobs WHERE id = ?1";
    store.query_row(row, [hex(id)], |row| row.get(0)).expect("our own store")
}

fn put(store: &Connection, data: &[u8]) -> [u8; 32] {
    let halves = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()];
    let id: [u8; 32] = halves.concat().try_into().expect("two halves");
    let row = "INSERT INTO blobs VALUES (?1, ?2)";
    store.execute(row, (hex(&id), data)).expect("our own store");
    id
}

fn leaf(role: &str, text: &str) -> String {
    json!({ "role": role, "content": [{ "type": "text", "text": text }] }).to_string()
}

/// A field of a protobuf message with bytes in it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut field = vec![number << 3 | 2];
    while length > 127 {
        field.push(length as u8 & 127 | 128);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend(bytes);
    field
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len() / 2).map_while(|at| text.get(2 * at..2 * at + 2));
    digits.map_while(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
