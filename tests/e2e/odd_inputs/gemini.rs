//! Gemini CLI's chats: a log of patches in a file, in a folder that stands for the directory.

use std::fs;

use serde_json::{Value, json};
use sessd_tests::real_cli::Gemini;

use super::case::{Case, Input, input, remove};
use super::{compare, lines};
use crate::scene::Scene;

const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000000";

#[test]
fn odd_inputs_of_gemini() {
    let scene = Scene::row(&Gemini, &[]);
    if let Some(scene) = &scene {
        // At each start it would delete what it cannot read.
        let path = scene.home().join("settings.json");
        let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        settings["general"]["sessionRetention"] = json!({ "enabled": false });
        fs::write(&path, settings.to_string()).unwrap();
    }
    compare(scene, r#"read_file {"file_path":"NOTES"}"#, &[lines::INPUTS, INPUTS]);
}

const INPUTS: &[Input] = &[
    input("id", "the file has another name", |it| {
        it.rename("session-2026-01-01T00-00-aaaaaaaa.jsonl");
    }),
    input("id", "the file has a name without an id", |it| it.rename("session-x.jsonl")),
    input("id", "the file has a name of another kind", |it| it.rename("chat.jsonl")),
    input("id", "the header names another session", |it| {
        set_in_headers(it, "sessionId", &OTHER.into());
        it.id = OTHER.to_owned();
    }),
    input("id", "the header names no session", |it| set_in_headers(it, "sessionId", &Value::Null)),
    input("id", "the id is a number", |it| set_in_headers(it, "sessionId", &7.into())),
    input("id", "a patch gives another id at the end", |it| {
        it.lines(|lines| lines.push(patch(&json!({ "sessionId": OTHER }))));
        it.id = OTHER.to_owned();
    }),
    input("header", "another hash of the project", |it| {
        set_in_headers(it, "projectHash", &"0".repeat(64).into());
    }),
    input("header", "no hash of the project", |it| {
        set_in_headers(it, "projectHash", &Value::Null);
    }),
    input("header", "no start time", |it| set_in_headers(it, "startTime", &Value::Null)),
    input("header", "a start time of another type", |it| {
        set_in_headers(it, "startTime", &7.into())
    }),
    input("header", "no time of the last change", |it| {
        it.each(|record| {
            remove(record, "lastUpdated");
            record.get_mut("$set").into_iter().for_each(|patch| remove(patch, "lastUpdated"));
        });
    }),
    input("header", "a subagent's", |it| set_in_headers(it, "kind", &"subagent".into())),
    input("header", "of a kind of tomorrow", |it| set_in_headers(it, "kind", &"else".into())),
    input("header", "of no kind", |it| set_in_headers(it, "kind", &Value::Null)),
    input("header", "only at the end", |it| it.lines(|lines| lines.rotate_left(1))),
    input("patches", "the list of messages torn, and the file goes on", |it| {
        it.lines(|lines| {
            let list = patch(&json!({ "messages": [message("x", "user", "of the list")] }));
            lines.push(list[..list.len() / 2].to_owned() + "\n");
            lines.push(patch(&json!({ "lastUpdated": "2026-11-30T10:00:00.000Z" })));
        });
    }),
    input("patches", "ends in a list of messages after a shorter one", |it| {
        it.lines(|lines| {
            let context = message("c", "user", "<session_context>of the start</session_context>");
            lines.push(patch(&json!({ "messages": [context] })));
            lines.push("{\"$set\":{\"messages\":[{\"id\":".to_owned());
        });
    }),
    input("patches", "the list of messages is empty", |it| {
        it.lines(|lines| lines.push(patch(&json!({ "messages": [] }))));
    }),
    input("patches", "the list of messages is null", |it| {
        it.lines(|lines| lines.push(patch(&json!({ "messages": null }))));
    }),
    input("patches", "the list of messages is a text", |it| {
        it.lines(|lines| lines.push(patch(&json!({ "messages": "text" }))));
    }),
    input("patches", "the list of messages has an odd one", |it| {
        it.lines(|lines| lines.push(patch(&json!({ "messages": [null, 7, {}] }))));
    }),
    input("patches", "all is undone", |it| {
        it.lines(|lines| lines.push("{\"$rewindTo\":\"unknown\"}\n".to_owned()));
    }),
    input("patches", "a patch that is a text", |it| {
        it.lines(|lines| lines.push("{\"$set\":\"text\"}\n".to_owned()));
    }),
    input("metadata only", "no messages", |it| {
        it.records(|records| records.retain(|record| record.get("type").is_none()));
    }),
    input("metadata only", "a prompt without an answer", |it| {
        it.records(|records| {
            let end = records.iter().position(|record| record["type"] == "gemini").unwrap();
            records.truncate(end);
        });
    }),
    input("metadata only", "answers only", |it| {
        it.records(|records| {
            records.retain(|record| record["type"] != "user");
            let patches = records.iter_mut().filter_map(|record| record.get_mut("$set"));
            patches.for_each(|patch| remove(patch, "messages"));
        });
    }),
    input("metadata only", "commands only", |it| {
        let header = it.text().lines().next().unwrap().to_owned();
        it.write(format!("{header}\n{}\n", message("1", "user", "/help")));
    }),
    input("types", "contents are null", |it| set_in_messages(it, "content", &Value::Null)),
    input("types", "contents are numbers", |it| set_in_messages(it, "content", &7.into())),
    input("types", "ids are numbers", |it| set_in_messages(it, "id", &7.into())),
    input("types", "messages of a type of tomorrow", |it| {
        set_in_messages(it, "type", &"else".into());
    }),
    input("tools", "without the calls", |it| it.each(|record| remove(record, "toolCalls"))),
    input("tools", "ends on the call", |it| {
        it.records(|records| {
            let end = records.iter().position(|it| it.get("toolCalls").is_some()).unwrap();
            records.truncate(end + 1);
        });
    }),
    input("older", "one object", |it| {
        let stem = it.path.file_stem().unwrap().to_str().unwrap().to_owned();
        it.write(older(it));
        it.rename(&format!("{stem}.json"));
    }),
    input("older", "one object, torn", |it| {
        let stem = it.path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = older(it);
        it.write(&text[..text.len() / 2]);
        it.rename(&format!("{stem}.json"));
    }),
    input("older", "one object with the newer name", |it| it.write(older(it))),
    input("older", "in a folder named by a hash", |it| {
        it.id = OTHER.to_owned();
        let hash = hash_in(it);
        let chats = it.home.join("tmp").join(hash).join("chats");
        fs::create_dir_all(&chats).unwrap();
        let to = chats.join(it.path.file_name().unwrap()).with_extension("json");
        fs::write(&to, older(it)).unwrap();
        // As it was before there were folders by name.
        fs::remove_dir_all(it.path.parent().unwrap().parent().unwrap()).unwrap();
        fs::remove_file(it.home.join("projects.json")).unwrap();
        it.path = to;
    }),
];

fn patch(fields: &Value) -> String {
    format!("{}\n", json!({ "$set": fields }))
}

fn message(id: &str, of: &str, text: &str) -> Value {
    let time = "2026-11-20T10:00:00.000Z";
    json!({ "id": id, "timestamp": time, "type": of, "content": text })
}

/// Sets a field of every header; null removes it.
fn set_in_headers(it: &Case, name: &str, value: &Value) {
    it.each(|record| {
        let is_header = record.get("projectHash").is_some();
        match value {
            Value::Null if is_header => remove(record, name),
            value if is_header => record[name] = value.clone(),
            _ => {}
        }
    });
}

/// Sets a field of every message, also of those in lists.
fn set_in_messages(it: &Case, name: &str, value: &Value) {
    it.each(|record| {
        if record.get("type").is_some() {
            record[name] = value.clone();
        }
        let listed = record.pointer_mut("/$set/messages").and_then(Value::as_array_mut);
        listed.into_iter().flatten().for_each(|message| message[name] = value.clone());
    });
}

fn hash_in(it: &Case) -> String {
    let header: Value = serde_json::from_str(it.text().lines().next().unwrap()).unwrap();
    header["projectHash"].as_str().unwrap().to_owned()
}

/// Returns the conversation in the format that is one object, by hand.
fn older(it: &Case) -> String {
    let mut messages = Vec::new();
    for (number, prompt) in (1..).zip(super::PROMPTS) {
        messages.push(message(&format!("u{number}"), "user", prompt));
        let answer = format!("FAKE turns={number} ");
        messages.push(message(&format!("a{number}"), "gemini", &answer));
    }
    let time = "2026-11-20T10:00:00.000Z";
    let chat = json!({ "sessionId": it.id, "projectHash": hash_in(it), "startTime": time,
        "lastUpdated": time, "messages": messages });
    serde_json::to_string_pretty(&chat).unwrap()
}
