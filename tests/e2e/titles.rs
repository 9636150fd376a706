//! Promise: a session has the name that its user gave it, else a title that tells it from others,
//! and nothing in a title steers a terminal.

use std::collections::HashMap;
use std::fs;
use std::slice::from_ref;

use serde_json::{Value, json};
use sessd_proto::{Session, Status};
use sessd_tests::sandbox::Sandbox;
use sessd_tests::wait::{DEADLINE, wait_until};

use crate::BINARIES;
use crate::scene::{all_sessions, sessions, verdict};

fn id(number: u32) -> String {
    format!("aaaaaaaa-0000-4000-8000-{number:012}")
}

fn thread(number: u32) -> String {
    format!("019e0000-0000-7000-8000-{number:012}")
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// A record of a Claude Code transcript.
fn claude(of: &str, content: &Value) -> Value {
    json!({
        "type": of, "uuid": "u", "timestamp": "2026-01-01T10:00:00.000Z", "cwd": "/",
        "gitBranch": "main",
        "entrypoint": "cli", "isSidechain": false, "message": { "role": of, "content": content },
    })
}

fn write_claude(sandbox: &Sandbox, number: u32, bytes: impl AsRef<[u8]>) {
    sandbox.write(&format!(".claude/projects/-/{}.jsonl", id(number)), bytes);
}

/// A record of a Codex rollout.
fn codex(of: &str, payload: Value) -> Value {
    json!({ "timestamp": "2026-01-01T10:00:00.000Z", "type": of, "payload": payload })
}

fn write_codex(sandbox: &Sandbox, number: u32, records: &[Value]) {
    let name = format!("rollout-2026-01-01T10-00-00-{}.jsonl", thread(number));
    sandbox.write(&format!(".codex/sessions/2026/01/01/{name}"), lines(records));
}

fn meta(number: u32) -> Value {
    let description = json!({ "id": thread(number), "timestamp": "2026-01-01T10:00:00.000Z",
        "cwd": "/", "source": "cli", "originator": "codex_cli_rs", "cli_version": "0.142.0" });
    codex("session_meta", description)
}

fn typed(text: &str) -> Value {
    codex("event_msg", json!({ "type": "user_message", "message": text }))
}

fn found(sandbox: &Sandbox) -> HashMap<String, Session> {
    let sessions = all_sessions(sandbox).into_iter();
    sessions.map(|session| (session.provider_session_id.clone().unwrap(), session)).collect()
}

#[test]
fn users_name_of_a_claude_session_stays_as_it_grows() {
    let sandbox = Sandbox::new(BINARIES);
    let name = |kind: &str, key: &str, text: &str| json!({ "type": kind, key: text });
    let custom = name("custom-title", "customTitle", "Importer work");
    let generated = name("ai-title", "aiTitle", "Generated");
    let answer = claude("assistant", &"x".repeat(1800).into());
    let grown = |middle: &[Value], answers: usize, end: &[Value]| {
        let mut records = vec![claude("user", &"hi".into())];
        records.extend(middle.iter().cloned());
        records.extend(std::iter::repeat_n(answer.clone(), answers));
        records.extend(end.iter().cloned());
        lines(&records)
    };
    for (number, answers) in [0, 5, 10, 20, 60, 100].into_iter().enumerate() {
        write_claude(
            &sandbox,
            number as u32,
            grown(from_ref(&custom), answers, from_ref(&generated)),
        );
    }
    write_claude(&sandbox, 10, grown(&[], 30, &[generated]));
    write_claude(&sandbox, 11, grown(&[], 30, &[]));
    let found = found(&sandbox);
    for number in 0..6 {
        assert_eq!(found[&id(number)].title.as_deref(), Some("Importer work"), "{number}");
    }
    assert_eq!(found[&id(10)].title.as_deref(), Some("Generated"));
    assert_eq!(found[&id(11)].title.as_deref(), Some("hi"));
}

#[test]
fn title_of_claude_is_the_first_meaningful_prompt() {
    let sandbox = Sandbox::new(BINARIES);
    let texts = |texts: &[&str]| {
        let blocks = texts.iter().map(|text| json!({ "type": "text", "text": text }));
        Value::from(blocks.collect::<Vec<_>>())
    };
    let command = "<command-message>m</command-message>\n<command-name>/review-pr</command-name>\n\
        <command-args>41 carefully</command-args>";
    let cases: [(&[Value], Option<&str>, Option<&str>); 7] = [
        (&[texts(&["<ide_opened_file>x</ide_opened_file>", "tidy"])], Some("tidy"), Some("tidy")),
        (
            &[texts(&["<system-reminder>x</system-reminder>\nfix it"])],
            Some("fix it"),
            Some("fix it"),
        ),
        (
            &[command.into(), texts(&["[Request interrupted by user]"])],
            Some("/review-pr 41 carefully"),
            Some("/review-pr 41 carefully"),
        ),
        (
            &["This session is being continued from a previous conversation.".into(), "go".into()],
            Some("go"),
            Some("go"),
        ),
        (&["first".into(), "second\nline".into()], Some("first"), Some("second line")),
        (
            &["<command-name>/clear</command-name>".into(), "then".into()],
            Some("then"),
            Some("then"),
        ),
        (&[texts(&["<ide_selection>only noise</ide_selection>"])], None, None),
    ];
    for (number, (prompts, _, _)) in cases.iter().enumerate() {
        let mut records: Vec<_> = prompts.iter().map(|prompt| claude("user", prompt)).collect();
        records.push(claude("assistant", &"ok".into()));
        write_claude(&sandbox, number as u32, lines(&records));
    }
    let found = found(&sandbox);
    for (number, (prompts, title, last)) in cases.iter().enumerate() {
        let session = &found[&id(number as u32)];
        assert_eq!(session.title.as_deref(), *title, "{prompts:?}");
        assert_eq!(session.last_prompt.as_deref(), *last, "{prompts:?}");
    }
    let shown = sandbox.sessctl(&["show", &id(4)]).stdout;
    assert!(shown.contains("last prompt\tsecond line\n"), "{shown}");
}

#[test]
fn damaged_bytes_cost_no_title() {
    let sandbox = Sandbox::new(BINARIES);
    let transcript =
        lines(&[claude("user", &"bytes XX here".into()), claude("assistant", &"ok".into())]);
    write_claude(&sandbox, 1, [b"\xef\xbb\xbf", transcript.as_bytes()].concat());
    let at = transcript.find("XX").unwrap();
    let mut broken = transcript.into_bytes();
    broken[at..at + 2].copy_from_slice(b"\xff\xfe");
    write_claude(&sandbox, 2, broken);
    let found = found(&sandbox);
    for number in [1, 2] {
        let session = &found[&id(number)];
        assert!(session.title.as_ref().is_some_and(|title| title.starts_with("bytes")));
        assert_eq!(session.created_at.to_string(), "2026-01-01T10:00:00.000Z");
        assert_eq!((session.launch_dir.as_str(), session.status), ("/", Status::Active));
    }
}

#[test]
fn codex_sessions_without_a_prompt_are_listed() {
    let sandbox = Sandbox::new(BINARIES);
    let message = |role: &str, kind: &str, text: &str| {
        let content = json!([{ "type": kind, "text": text }]);
        codex("response_item", json!({ "type": "message", "role": role, "content": content }))
    };
    let environment = message("user", "input_text", "<environment_context>x</environment_context>");
    let answer = message("assistant", "output_text", "ok");
    let goal = json!({ "type": "thread_goal_updated", "goal": { "objective": "make it green" } });
    let review = json!({ "type": "entered_review_mode", "user_facing_hint": "changes" });
    write_codex(&sandbox, 1, &[meta(1), codex("event_msg", goal), answer.clone()]);
    write_codex(&sandbox, 2, &[meta(2), codex("event_msg", review), answer.clone()]);
    write_codex(&sandbox, 3, &[meta(3), typed(""), answer.clone()]);
    let words = message("user", "input_text", "real words");
    write_codex(&sandbox, 4, &[meta(4), environment.clone(), words.clone(), answer]);
    write_codex(&sandbox, 5, &[meta(5), environment]);
    let mut old = words["payload"].clone();
    old["id"] = "m".into();
    let first = json!({ "id": thread(6), "timestamp": "2025-08-20T10:00:00Z", "git": {} });
    write_codex(&sandbox, 6, &[first, old]);
    write_codex(&sandbox, 7, &[]);
    let found = found(&sandbox);
    let titles = [1, 2, 3, 4, 6].map(|number| found[&thread(number)].title.as_deref());
    assert_eq!(titles, [Some("make it green"), None, None, Some("real words"), Some("real words")]);
    for number in 1..5 {
        assert_eq!(found[&thread(number)].status, Status::Active, "{number}");
    }
    let invalid = (Status::Invalid, Some("session_meta_missing"));
    assert_eq!(verdict(&found[&thread(6)]), invalid);
    assert_eq!(found.len(), 5, "without a turn, and empty");
}

#[test]
fn rename_of_a_codex_session_is_found_at_once() {
    let sandbox = Sandbox::new(BINARIES);
    for number in [1, 2] {
        write_codex(&sandbox, number, &[meta(number), typed("explain the parser")]);
    }
    assert_eq!(found(&sandbox).len(), 2);
    let title = || {
        let all = sessions(&sandbox, &["list", "--all"]).into_iter();
        let mut is_it = all.filter(|it| it.provider_session_id.as_deref() == Some(&thread(1)));
        is_it.next().and_then(|session| session.title)
    };
    let mut index = String::new();
    for name in ["Parser", "Parser deep dive"] {
        index += &format!("{}\n", json!({ "id": thread(1), "thread_name": name }));
        sandbox.write(".codex/session_index.jsonl", &index);
        wait_until("the new name", DEADLINE, || (title()? == name).then_some(()));
    }
    fs::remove_file(sandbox.home().join(".codex/session_index.jsonl")).unwrap();
    wait_until("the prompt again", DEADLINE, || (title()? == "explain the parser").then_some(()));
}

#[test]
fn nothing_in_a_title_or_tag_steers_a_terminal() {
    let sandbox = Sandbox::new(BINARIES);
    let family = "\u{1f469}\u{200d}\u{1f467}";
    let evil = format!("rename \u{202e}gnp.exe\u{2066} \u{200b}now\u{e0041}\u{2028}{family}");
    write_claude(
        &sandbox,
        1,
        lines(&[claude("user", &evil.into()), claude("assistant", &"ok".into())]),
    );
    let session = found(&sandbox).remove(&id(1)).unwrap();
    assert_eq!(session.title.as_deref(), Some(&*format!("rename gnp.exe now {family}")));
    let tag = "a\u{202e}b";
    assert_eq!(sandbox.sessctl(&["tag", &id(1), tag]).status, 0);
    let shown = sandbox.sessctl(&["show", &id(1)]).stdout;
    assert!(shown.contains("tags\tab\n"), "{shown}");
    assert_eq!(found(&sandbox)[&id(1)].tags, [tag]);
}
