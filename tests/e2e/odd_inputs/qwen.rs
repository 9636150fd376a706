//! Qwen Code's transcripts: a tree of records in a file, named by the id.

use std::fs;

use serde_json::{Value, json};
use sessd_tests::real_cli::Qwen;

use super::case::{Case, Input, input, remove};
use super::tree::{OTHER, is_message, nth_message};
use super::{compare, lines, tree};
use crate::scene::Scene;

#[test]
fn odd_inputs_of_qwen() {
    compare(
        Scene::row(&Qwen, &[]),
        r#"read_file {"file_path":"NOTES"}"#,
        &[lines::INPUTS, tree::INPUTS, INPUTS],
    );
}

const INPUTS: &[Input] = &[
    input("id", "the first record names another session", |it| {
        it.records(|records| records[0]["sessionId"] = OTHER.into());
    }),
    input("place", "the archive", |it| {
        let archive = it.path.with_file_name("archive");
        fs::create_dir_all(&archive).unwrap();
        fs::rename(&it.path, archive.join(it.path.file_name().unwrap())).unwrap();
    }),
    input("directory", "another in every record", |it| it.each(|it| it["cwd"] = "/else".into())),
    input("directory", "another in the first record", |it| {
        it.records(|records| records[0]["cwd"] = "/else".into());
    }),
    input("directory", "none in the first record", |it| {
        it.records(|records| remove(&mut records[0], "cwd"));
    }),
    input("directory", "a number in the first record", |it| {
        it.records(|records| records[0]["cwd"] = 7.into());
    }),
    input("chain", "a last record with a parent that is lost", |it| {
        it.lines(|lines| {
            let record = json!({ "uuid": "u", "parentUuid": "lost", "type": "system", "cwd": "/" });
            lines.push(format!("{record}\n"));
        });
    }),
    input("chain", "two records with one uuid", |it| {
        it.records(|records| {
            let uuid = nth_message(records, 1)["uuid"].clone();
            nth_message(records, 2)["uuid"] = uuid;
        });
    }),
    input("types", "parts are null", |it| {
        it.records(|records| {
            for record in records.iter_mut().filter(|record| is_message(record)) {
                record["message"]["parts"] = Value::Null;
            }
        });
    }),
    input("types", "no types", |it| it.each(|record| remove(record, "type"))),
    input("tools", "a result without its call", |it| {
        it.records(|records| records.retain(|it| !it.to_string().contains("\"functionCall\"")));
    }),
    input("tools", "a call without its result", |it| {
        it.records(|records| records.retain(|record| record["type"] != "tool_result"));
    }),
    input("tools", "ends on the call", |it| {
        it.records(|records| {
            let is_call = |it: &Value| it.to_string().contains("\"functionCall\"");
            let end = records.iter().position(is_call).unwrap();
            records.truncate(end + 1);
        });
    }),
    input("older", "as 0.15 wrote it", |it| it.write(older(it))),
];

/// Returns the conversation as an older version wrote it, by hand.
fn older(it: &Case) -> String {
    let mut parent = Value::Null;
    let mut text = String::new();
    let mut say = |of: &str, role: &str, words: &str| {
        let uuid = format!("00000000-0000-4000-8000-{:012}", text.lines().count());
        let record = json!({ "uuid": uuid, "parentUuid": parent, "sessionId": it.id, "type": of,
            "timestamp": "2026-11-20T10:00:00.000Z", "cwd": it.project, "version": "0.15.10",
            "message": { "role": role, "parts": [{ "text": words }] } });
        parent = uuid.into();
        text += &format!("{record}\n");
    };
    for (number, prompt) in (1..).zip(super::PROMPTS) {
        say("user", "user", prompt);
        say("assistant", "model", &format!("FAKE turns={number} "));
    }
    text
}
