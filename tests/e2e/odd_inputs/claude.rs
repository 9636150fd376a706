//! Claude Code's transcripts: a tree of records in a file, named by the id.

use serde_json::{Value, json};
use sessd_tests::real_cli::Claude;

use super::case::{Case, Input, input, remove};
use super::tree::{OTHER, is_message, set};
use super::{compare, lines, tree};
use crate::scene::{QUICK, Scene};

#[test]
fn odd_inputs_of_claude() {
    let scene = Scene::row(&Claude, QUICK);
    compare(scene, r#"Read {"file_path":"NOTES"}"#, &[lines::INPUTS, tree::INPUTS, INPUTS]);
}

const INPUTS: &[Input] = &[
    input("types", "no messages in the records", |it| it.each(|record| remove(record, "message"))),
    input("types", "contents are null", |it| set_content(it, &Value::Null)),
    input("types", "contents are numbers", |it| set_content(it, &json!(7))),
    input("types", "contents are empty", |it| set_content(it, &json!([]))),
    input("types", "no directories", |it| it.each(|record| remove(record, "cwd"))),
    input("types", "the types are in capitals", |it| {
        it.each(|record| {
            let kind = record["type"].as_str().unwrap_or_default().to_uppercase();
            record["type"] = kind.into();
        });
    }),
    input("types", "all are of a side chain", |it| set(it, "isSidechain", &true.into())),
    input("types", "the side chain is a text", |it| set(it, "isSidechain", &"false".into())),
    input("types", "all are meta", |it| set(it, "isMeta", &true.into())),
    input("tools", "a result without its call", |it| {
        it.records(|records| records.retain(|record| !has_block(record, "tool_use")));
    }),
    input("tools", "a call without its result", |it| {
        it.records(|records| records.retain(|record| !has_block(record, "tool_result")));
    }),
    input("tools", "ends on the call", |it| {
        it.records(|records| {
            let end = records.iter().position(|record| has_block(record, "tool_use")).unwrap();
            records.truncate(end + 1);
        });
    }),
    input("older", "as 2.0 wrote it", |it| it.write(older(it, "2.0.72", true))),
    input("older", "as 1.0 wrote it", |it| it.write(older(it, "1.0.39", false))),
    input("older", "a summary of another session before", |it| {
        it.lines(|lines| {
            let summary = json!({ "type": "summary", "summary": "Old talk", "leafUuid": OTHER });
            lines.insert(0, format!("{summary}\n"));
        });
    }),
];

/// Returns the conversation as a version without the newest records wrote it, by hand.
fn older(it: &Case, version: &str, is_branched: bool) -> String {
    let mut text = String::new();
    let mut parent = Value::Null;
    let mut say = |kind: &str, message: Value| {
        let uuid = format!("00000000-0000-4000-8000-{:012}", text.lines().count());
        let mut record = json!({ "parentUuid": parent, "isSidechain": false, "type": kind,
            "userType": "external", "cwd": it.project, "sessionId": it.id, "version": version,
            "message": message, "uuid": uuid, "timestamp": "2026-11-20T10:00:00.000Z" });
        if is_branched {
            record["gitBranch"] = "main".into();
        }
        parent = uuid.into();
        text += &format!("{record}\n");
    };
    for (number, prompt) in (1..).zip(super::PROMPTS) {
        say("user", json!({ "role": "user", "content": prompt }));
        let answer = [json!({ "type": "text", "text": format!("FAKE turns={number} ") })];
        say(
            "assistant",
            json!({ "id": format!("msg_{number}"), "type": "message",
            "role": "assistant", "model": "claude-sonnet-4", "content": answer,
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": 1, "output_tokens": 1 } }),
        );
    }
    text
}

fn has_block(record: &Value, kind: &str) -> bool {
    let blocks = record["message"]["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().any(|block| block["type"] == kind)
}

fn set_content(it: &Case, value: &Value) {
    it.records(|records| {
        for record in records.iter_mut().filter(|record| is_message(record)) {
            record["message"]["content"] = value.clone();
        }
    });
}
