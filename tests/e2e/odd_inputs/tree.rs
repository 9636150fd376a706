//! Damages of a tree of records in a file that is named by the id. Knows no provider.

use serde_json::{Value, json};

use super::case::{Case, Input, input, remove};

/// The id of another session.
pub(super) const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000000";

/// Inputs that every provider with such a tree has.
pub(super) const INPUTS: &[Input] = &[
    input("id", "the file has another name", |it| {
        it.rename(&format!("{OTHER}.jsonl"));
        it.id = OTHER.to_owned();
    }),
    input("id", "the records name another session", |it| {
        it.each(|record| record["sessionId"] = OTHER.into());
    }),
    input("id", "the records name no session", |it| it.each(|record| remove(record, "sessionId"))),
    input("chain", "a parent that is not there", |it| {
        it.records(|records| nth_message(records, 2)["parentUuid"] = "lost".into());
    }),
    input("chain", "every parent is null", |it| {
        it.each(|record| record["parentUuid"] = Value::Null);
    }),
    input("chain", "no parents", |it| it.each(|record| remove(record, "parentUuid"))),
    input("chain", "a record is its own parent", |it| {
        it.records(|records| {
            let record = nth_message(records, 3);
            record["parentUuid"] = record["uuid"].clone();
        });
    }),
    input("chain", "no uuids", |it| it.each(|record| remove(record, "uuid"))),
    input("metadata only", "no messages", |it| {
        it.records(|records| records.retain(|record| !is_message(record)));
    }),
    input("metadata only", "a prompt without an answer", |it| {
        it.records(|records| {
            let end = records.iter().position(|record| record["type"] == "assistant").unwrap();
            records.truncate(end);
        });
    }),
    input("metadata only", "answers only", |it| {
        it.records(|records| records.retain(|record| record["type"] != "user"));
    }),
    input("types", "messages are null", |it| set(it, "message", &Value::Null)),
    input("types", "messages are texts", |it| set(it, "message", &json!("text"))),
    input("types", "no times", |it| it.each(|record| remove(record, "timestamp"))),
];

/// True for what a person or a model said.
pub(super) fn is_message(record: &Value) -> bool {
    record["type"] == "user" || record["type"] == "assistant"
}

pub(super) fn nth_message(records: &mut [Value], number: usize) -> &mut Value {
    records.iter_mut().filter(|record| is_message(record)).nth(number).unwrap()
}

/// Sets a field of every message.
pub(super) fn set(it: &Case, name: &str, value: &Value) {
    it.records(|records| {
        for record in records.iter_mut().filter(|record| is_message(record)) {
            record[name] = value.clone();
        }
    });
}
