//! Codex's rollouts: numbered records in a file, the first of which describes the session.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use sessd_tests::real_cli::Codex;

use super::case::{Case, Input, input, remove};
use super::{compare, lines};
use crate::scene::{QUICK, Scene};

const OTHER: &str = "019e0000-0000-7000-8000-000000000001";

#[test]
fn odd_inputs_of_codex() {
    let scene = Scene::row(&Codex, QUICK);
    compare(scene, r#"exec_command {"cmd":"cat NOTES"}"#, &[lines::INPUTS, INPUTS]);
}

const INPUTS: &[Input] = &[
    input("id", "the file has another name", |it| rename(it, OTHER)),
    input("id", "the file has another name, asked by the old id", |it| {
        let id = it.id.clone();
        rename(it, OTHER);
        it.id = id;
    }),
    input("id", "the first record has another id", |it| meta(it, "id", &OTHER.into())),
    input("id", "the first record has a malformed id", |it| meta(it, "id", &"not-an-id".into())),
    input("id", "the first record has no id", |it| meta(it, "id", &Value::Null)),
    input("place", "the folder of another day", |it| {
        let day = it.home.join("sessions/2020/01/02");
        fs::create_dir_all(&day).unwrap();
        let to = day.join(it.path.file_name().unwrap());
        fs::rename(&it.path, &to).unwrap();
        it.path = to;
    }),
    input("place", "the folder of all sessions", |it| {
        let to = it.home.join("sessions").join(it.path.file_name().unwrap());
        fs::rename(&it.path, &to).unwrap();
        it.path = to;
    }),
    input("place", "the archive", |it| {
        let archive = it.home.join("archived_sessions");
        fs::create_dir_all(&archive).unwrap();
        fs::rename(&it.path, archive.join(it.path.file_name().unwrap())).unwrap();
    }),
    input("ordinals", "none in one record", |it| {
        it.records(|records| remove(&mut records[5], "ordinal"));
    }),
    input("ordinals", "none in the last record", |it| {
        it.records(|records| remove(records.last_mut().unwrap(), "ordinal"));
    }),
    input("ordinals", "none in the first record", |it| {
        it.records(|records| remove(&mut records[0], "ordinal"));
    }),
    input("ordinals", "none at all", |it| it.each(|record| remove(record, "ordinal"))),
    input("ordinals", "a text", |it| it.records(|records| records[5]["ordinal"] = "5".into())),
    input("ordinals", "a negative one", |it| {
        it.records(|records| records[5]["ordinal"] = (-5).into());
    }),
    input("ordinals", "a gap", |it| {
        it.records(|records| {
            records[5..].iter_mut().for_each(|record| {
                record["ordinal"] = (record["ordinal"].as_u64().unwrap() + 100).into();
            });
        });
    }),
    input("ordinals", "two alike", |it| {
        it.records(|records| records[6]["ordinal"] = records[5]["ordinal"].clone());
    }),
    input("ordinals", "backwards", |it| {
        it.records(|records| {
            let count = records.len();
            records.iter_mut().enumerate().for_each(|(at, record)| {
                record["ordinal"] = (count - at).into();
            });
        });
    }),
    input("lineage", "a base that is not there", |it| {
        let base = json!({ "thread_id": OTHER, "end_ordinal_exclusive": 4, "end_byte_offset": 9 });
        meta(it, "history_base", &base);
    }),
    input("lineage", "itself", |it| {
        let base = json!({ "thread_id": it.id, "end_ordinal_exclusive": 4, "end_byte_offset": 9 });
        meta(it, "history_base", &base);
    }),
    input("lineage", "a base of another type", |it| meta(it, "history_base", &"text".into())),
    input("lineage", "a parent without a base", |it| meta(it, "forked_from_id", &OTHER.into())),
    input("service", "one that is not configured", |it| {
        meta(it, "model_provider", &"of-yesterday".into());
    }),
    input("service", "one that is built in", |it| meta(it, "model_provider", &"ollama".into())),
    input("service", "none", |it| meta(it, "model_provider", &Value::Null)),
    input("types", "the payload of the first record is null", |it| {
        it.records(|records| records[0]["payload"] = Value::Null);
    }),
    input("types", "payloads are null after the first", |it| {
        it.records(|records| records[1..].iter_mut().for_each(|it| it["payload"] = Value::Null));
    }),
    input("types", "no times", |it| it.each(|record| remove(record, "timestamp"))),
    input("types", "no time in the first record", |it| {
        it.records(|records| remove(&mut records[0], "timestamp"));
    }),
    input("types", "no directory", |it| meta(it, "cwd", &Value::Null)),
    input("types", "a directory that is a number", |it| meta(it, "cwd", &7.into())),
    input("types", "no source", |it| meta(it, "source", &Value::Null)),
    input("types", "a source of tomorrow", |it| meta(it, "source", &"of-tomorrow".into())),
    input("types", "an unknown mode of history", |it| meta(it, "history_mode", &"else".into())),
    input("types", "no originator", |it| meta(it, "originator", &Value::Null)),
    input("types", "no version", |it| meta(it, "cli_version", &Value::Null)),
    input("types", "contents are null", |it| {
        it.each(|record| {
            if record["type"] == "response_item" {
                record["payload"]["content"] = Value::Null;
            }
        });
    }),
    input("metadata only", "the first record", |it| {
        it.records(|records| records.truncate(1));
    }),
    input("metadata only", "no items of the model", |it| without(it, "response_item")),
    input("metadata only", "no events", |it| without(it, "event_msg")),
    input("metadata only", "a prompt without an answer", |it| {
        it.records(|records| {
            let is_answer = |it: &Value| it["payload"]["role"] == "assistant";
            let end = records.iter().position(is_answer).unwrap();
            records.truncate(end);
        });
    }),
    input("tools", "a result without its call", |it| without_item(it, "function_call")),
    input("tools", "a call without its result", |it| without_item(it, "function_call_output")),
    input("tools", "ends on the call", |it| {
        it.records(|records| {
            let is_call = |it: &Value| it["payload"]["type"] == "function_call";
            let end = records.iter().position(is_call).unwrap();
            records.truncate(end + 1);
        });
    }),
    input("older", "before pagination", |it| it.write(older(it, "0.111.0"))),
    input("older", "before pagination, without a mode", |it| {
        let text = older(it, "0.47.0").replace("\"history_mode\":\"legacy\",", "");
        it.write(text);
    }),
    input("older", "before the records had types", |it| {
        let head = json!({ "id": it.id, "timestamp": "2025-08-20T10:00:00.000Z",
            "instructions": null, "git": {} });
        let items = super::PROMPTS.map(|prompt| {
            let content = json!([{ "type": "input_text", "text": prompt }]);
            json!({ "type": "message", "role": "user", "content": content })
        });
        let lines = [head].into_iter().chain(items).map(|line| format!("{line}\n"));
        it.write(lines.collect::<String>());
    }),
    input("link", "one to a file of the same name", |it| {
        let aside = it.value.join("aside");
        fs::create_dir(&aside).unwrap();
        let to = aside.join(it.path.file_name().unwrap());
        fs::rename(&it.path, &to).unwrap();
        symlink(to, &it.path).unwrap();
    }),
    input("service", "one that is not configured, in every record", |it| {
        let text = it.text().replace("\"model_provider\":\"test\"", "\"model_provider\":\"gone\"");
        it.write(text.replace("_provider_id\":\"test\"", "_provider_id\":\"gone\""));
    }),
    input("index", "one that is not a database", |it| {
        fs::write(it.home.join("state_5.sqlite"), "this is not a database").unwrap();
    }),
];

/// Gives the rollout the name of another session, which is then asked for.
fn rename(it: &mut Case, id: &str) {
    let name = it.path.file_name().unwrap().to_str().unwrap().replace(&it.id, id);
    it.rename(&name);
    it.id = id.to_owned();
}

/// Sets a field of the first record's payload; null removes it.
fn meta(it: &Case, name: &str, value: &Value) {
    it.records(|records| match value {
        Value::Null => remove(&mut records[0]["payload"], name),
        value => records[0]["payload"][name] = value.clone(),
    });
}

fn without(it: &Case, kind: &str) {
    it.records(|records| records.retain(|record| record["type"] != kind));
}

fn without_item(it: &Case, kind: &str) {
    it.records(|records| records.retain(|record| record["payload"]["type"] != kind));
}

/// Returns the conversation as a version without numbered records wrote it, by hand.
fn older(it: &Case, version: &str) -> String {
    let mut text = String::new();
    let mut add = |kind: &str, payload: Value| {
        let time = "2026-11-20T10:00:00.000Z";
        let record = json!({ "timestamp": time, "type": kind, "payload": payload });
        text += &format!("{record}\n");
    };
    add(
        "session_meta",
        json!({ "id": it.id, "timestamp": "2026-11-20T10:00:00.000Z",
        "cwd": it.project, "originator": "codex_cli_rs", "cli_version": version, "source": "cli",
        "model_provider": "test", "instructions": null, "history_mode": "legacy" }),
    );
    for (number, prompt) in (1..).zip(super::PROMPTS) {
        let item = |role: &str, kind: &str, words: &str| {
            let content = json!([{ "type": kind, "text": words }]);
            json!({ "type": "message", "role": role, "content": content })
        };
        let answer = format!("FAKE turns={number} ");
        add("response_item", item("user", "input_text", prompt));
        add("event_msg", json!({ "type": "user_message", "message": prompt, "images": [] }));
        add("response_item", item("assistant", "output_text", &answer));
        add("event_msg", json!({ "type": "agent_message", "message": answer }));
    }
    text
}
