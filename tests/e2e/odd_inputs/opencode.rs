//! The sessions of OpenCode and Kilo: rows of one database. One table for the family.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use sessd_proto::Reason;
use sessd_tests::real_cli::{KILO, OPENCODE};

use super::case::{Case, Input, although, input};
use super::compare;
use crate::scene::Scene;

const TOOL: &str = r#"read {"filePath":"NOTES"}"#;

#[test]
fn odd_inputs_of_opencode() {
    compare(Scene::row(&OPENCODE, &[]), TOOL, &[INPUTS]);
}

#[test]
fn odd_inputs_of_kilo() {
    compare(Scene::row(&KILO, &[]), TOOL, &[INPUTS]);
}

const INPUTS: &[Input] = &[
    input("as it was", "untouched", |_| {}),
    input("rows missing", "the session", |it| {
        it.sql("PRAGMA foreign_keys = OFF; DELETE FROM session");
    }),
    input("rows missing", "the session with all that is of it", |it| {
        it.sql("PRAGMA foreign_keys = ON; DELETE FROM session");
    }),
    input("rows missing", "all messages", |it| it.sql("DELETE FROM message; DELETE FROM part")),
    input("rows missing", "all messages, their parts stay", |it| {
        it.sql("PRAGMA foreign_keys = OFF; DELETE FROM message");
    }),
    input("rows missing", "all parts", |it| it.sql("DELETE FROM part")),
    input("rows missing", "the first message", |it| {
        it.sql("DELETE FROM message WHERE id = (SELECT min(id) FROM message)");
    }),
    input("rows missing", "the last message", |it| {
        it.sql("DELETE FROM message WHERE id = (SELECT max(id) FROM message)");
    }),
    input("rows missing", "what the user said", |it| {
        it.sql("DELETE FROM message WHERE data LIKE '%\"role\":\"user\"%'");
    }),
    input("rows missing", "what the model said", |it| {
        it.sql("DELETE FROM message WHERE data LIKE '%\"role\":\"assistant\"%'");
    }),
    input("rows missing", "the texts", |it| {
        it.sql("DELETE FROM part WHERE data LIKE '%\"type\":\"text\"%'");
    }),
    input("rows missing", "the project", |it| {
        it.sql("PRAGMA foreign_keys = OFF; DELETE FROM project");
    }),
    input("rows missing", "the events", |it| it.sql("DELETE FROM event_sequence")),
    input("JSON", "garbage in the first message", |it| {
        it.sql("UPDATE message SET data = 'garbage' WHERE id = (SELECT min(id) FROM message)");
    }),
    input("JSON", "garbage in the last message", |it| {
        it.sql("UPDATE message SET data = 'garbage' WHERE id = (SELECT max(id) FROM message)");
    }),
    input("JSON", "garbage in every message", |it| it.sql("UPDATE message SET data = 'garbage'")),
    input("JSON", "garbage in the first part", |it| {
        it.sql("UPDATE part SET data = 'garbage' WHERE id = (SELECT min(id) FROM part)");
    }),
    input("JSON", "garbage in every part", |it| it.sql("UPDATE part SET data = 'garbage'")),
    input("JSON", "torn in the last part", |it| {
        it.sql("UPDATE part SET data = substr(data, 1, 9) WHERE id = (SELECT max(id) FROM part)");
    }),
    input("JSON", "garbage in the model of the session", |it| {
        it.sql("UPDATE session SET model = 'garbage'");
    }),
    input("JSON", "garbage in the rules of the session", |it| {
        it.sql("UPDATE session SET permission = 'garbage'");
    }),
    input("JSON", "null in every message", |it| it.sql("UPDATE message SET data = 'null'")),
    input("JSON", "lists in every message", |it| it.sql("UPDATE message SET data = '[]'")),
    input("JSON", "empty objects in every message", |it| it.sql("UPDATE message SET data = '{}'")),
    input("JSON", "empty objects in every part", |it| it.sql("UPDATE part SET data = '{}'")),
    input("types", "a time that is a text", |it| {
        it.sql("UPDATE session SET time_updated = 'yesterday'");
    }),
    input("types", "a time with a fraction", |it| {
        it.sql("UPDATE session SET time_created = time_created + 0.5");
    }),
    input("types", "a negative time", |it| it.sql("UPDATE session SET time_created = -1")),
    input("types", "bytes for the directory", |it| {
        it.sql("UPDATE session SET directory = CAST(directory AS BLOB)");
    }),
    input("types", "bytes for the title", |it| it.sql("UPDATE session SET title = x'ff00fe'")),
    input("types", "bytes for every message", |it| {
        it.sql("UPDATE message SET data = CAST(data AS BLOB)");
    }),
    input("types", "an empty title", |it| it.sql("UPDATE session SET title = ''")),
    although(Reason::ArchivedByProvider, "archived", "at a time", |it| {
        it.sql("UPDATE session SET time_archived = 1795248933761")
    }),
    although(Reason::ArchivedByProvider, "archived", "at no time", |it| {
        it.sql("UPDATE session SET time_archived = 0");
    }),
    input("parent", "a session that is not there", |it| {
        it.sql("UPDATE session SET parent_id = 'ses_dd04e9e39ffehg5kLRtzCHTWl6'");
    }),
    input("parent", "itself", |it| it.sql("UPDATE session SET parent_id = id")),
    input("id", "one that does not look like one", |it| {
        let sql = "PRAGMA foreign_keys = OFF; UPDATE session SET id = 'odd';
            UPDATE message SET session_id = 'odd'; UPDATE part SET session_id = 'odd'";
        it.sql(sql);
        it.id = "odd".to_owned();
    }),
    input("id", "the messages are of another session", |it| {
        it.sql("PRAGMA foreign_keys = OFF; UPDATE message SET session_id = 'ses_other'");
    }),
    input("id", "the parts are of another session", |it| {
        it.sql("UPDATE part SET session_id = 'ses_other'");
    }),
    input("order", "all messages at one time", |it| it.sql("UPDATE message SET time_created = 1")),
    input("order", "backwards", |it| {
        it.sql("UPDATE message SET time_created = 4000000000000 - time_created");
    }),
    input("tables missing", "the sessions", |it| it.drop_table("session")),
    input("tables missing", "the messages", |it| it.drop_table("message")),
    input("tables missing", "the parts", |it| it.drop_table("part")),
    input("tables missing", "the tasks", |it| it.drop_table("todo")),
    input("columns", "without the directory", |it| {
        it.sql("ALTER TABLE session DROP COLUMN directory");
    }),
    input("columns", "one more", |it| it.sql("ALTER TABLE session ADD COLUMN mood TEXT")),
    although(Reason::NewerFormat, "newer", "tables of version 2 beside the old ones", |it| {
        it.sql("CREATE TABLE session_v2 AS SELECT * FROM session");
        it.sql("CREATE TABLE message_v2 AS SELECT * FROM message");
    }),
    input("newer", "a migration of tomorrow", |it| {
        it.sql("INSERT INTO migration VALUES ('20990101000000_of_tomorrow', 1)");
    }),
    input("newer", "a table of tomorrow", |it| it.sql("CREATE TABLE mood (id TEXT PRIMARY KEY)")),
    input("newer", "a version of tomorrow", |it| it.sql("UPDATE session SET version = '99.0.0'")),
    input("file", "half of it", |it| {
        it.checkpoint();
        it.edit(|bytes| bytes.truncate(bytes.len() / 2));
    }),
    input("file", "one page is damaged", |it| {
        it.checkpoint();
        it.edit(|bytes| bytes[4096..8192].fill(0xa5));
    }),
    input("file", "not a database", |it| {
        it.checkpoint();
        it.write("this is not a database");
    }),
    input("file", "the header is damaged", |it| {
        it.checkpoint();
        it.edit(|bytes| bytes[..16].fill(0));
    }),
    input("empty", "no byte", |it| {
        it.checkpoint();
        it.write("");
    }),
    input("older", "files of JSON before there was a database", |it| {
        let storage = it.path.with_file_name("storage");
        let time = json!({ "created": 1_760_000_000_000_u64, "updated": 1_760_000_000_000_u64 });
        let session = json!({ "id": it.id, "version": "0.15.0", "projectID": "global",
            "directory": it.project, "title": "old", "time": time });
        let message = json!({ "id": "msg_1", "sessionID": it.id, "role": "user", "time": time });
        let part = json!({ "id": "prt_1", "sessionID": it.id, "messageID": "msg_1",
            "type": "text", "text": "alpha question" });
        let id = &it.id;
        for (name, value) in [
            (format!("session/global/{id}.json"), session),
            (format!("message/{id}/msg_1.json"), message),
            ("part/msg_1/prt_1.json".to_owned(), part),
        ] {
            let path = storage.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value.to_string()).unwrap();
        }
        it.checkpoint();
        it.put_aside();
    }),
    input("removed", "the database", |it| {
        it.checkpoint();
        it.put_aside();
    }),
    input("link", "a symbolic one", |it| {
        it.checkpoint();
        symlink(it.put_aside(), &it.path).unwrap();
    }),
    input("link", "one that leads nowhere", |it| {
        it.checkpoint();
        symlink(it.put_aside().with_extension("gone"), &it.path).unwrap();
    }),
    input("link", "a loop", |it| {
        it.checkpoint();
        it.put_aside();
        symlink(&it.path, &it.path).unwrap();
    }),
    input("log", "garbage", |it| {
        it.checkpoint();
        fs::write(it.log(), "garbage").unwrap();
    }),
    input("log", "as a crash leaves it", |it| {
        it.sql("UPDATE session SET title = 'in the log'");
        let _ = fs::remove_file(it.path.with_extension("db-shm"));
    }),
    input("log", "none", |it| it.sql("PRAGMA journal_mode = DELETE")),
    input("size", "a part of 5 MB", |it| {
        it.sql(
            "INSERT INTO part SELECT 'prt_zz', message_id, session_id, 1, 1,
                json_object('type', 'text', 'text', hex(zeroblob(2500000))) FROM part LIMIT 1",
        );
    }),
    input("encoding", "bytes that are not text in a message", |it| {
        it.sql(
            "UPDATE part SET data = CAST(CAST(data AS BLOB) || x'ff' AS TEXT)
            WHERE id = (SELECT min(id) FROM part)",
        );
    }),
];

impl Case {
    /// Changes the database. Kilo has an index that takes no malformed JSON: there such an input
    /// changes nothing.
    fn sql(&self, text: &str) {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        if let Err(error) = connection.execute_batch(text) {
            assert!(error.to_string().contains("malformed JSON"), "{text}: {error}");
        }
    }

    fn drop_table(&self, name: &str) {
        self.sql(&format!("PRAGMA foreign_keys = OFF; DROP TABLE {name}"));
    }

    /// Writes the log into the database and removes it.
    fn checkpoint(&self) {
        self.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        for file in [self.log(), self.path.with_extension("db-shm")] {
            let _ = fs::remove_file(file);
        }
    }

    fn log(&self) -> PathBuf {
        self.path.with_extension("db-wal")
    }
}
