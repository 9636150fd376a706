//! Promise: what sessd says of a session is true of the version of the program that is installed:
//! verdicts, forks, who has it open, where it went on. By homes that are written by hand and
//! programs that are scripts; the real CLIs prove the same in `verdicts`, `new` and `live`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sessd_proto::turn::TurnOutputRequest;
use sessd_proto::{EventType, FaultCode, LiveState, Session, Status};
use sessd_tests::sandbox::Sandbox;

use crate::BINARIES;
use crate::scene::{all_sessions, answer, check, fault, run_job, sessions, show, verdict};

const ID: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const NEXT: &str = "bbbbbbbb-0000-4000-8000-000000000000";

/// A stranger's process with a session open; it ends with the test.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// When it was started, in clock ticks since boot.
    fn ticks(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Installs a program of this version as npm does; it does what the script says.
fn install(sandbox: &Sandbox, name: &str, version: &str, script: &str) {
    let folder = format!("lib/node_modules/{name}-{version}");
    let package = json!({ "name": name, "version": version, "bin": { name: "cli.js" } });
    sandbox.write(&format!("{folder}/package.json"), package.to_string());
    let program = sandbox.script(format!("{folder}/cli.js"), script);
    sandbox.link(name, &program);
}

/// The name of a directory's folder at Claude Code and Qwen Code.
fn folder(directory: &Path) -> String {
    directory.to_str().unwrap().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Writes a session of Qwen Code; returns the path below its project's folder.
fn write_qwen(sandbox: &Sandbox, more: &[Value]) -> String {
    let project = sandbox.dir("project");
    let record = |uuid: &str, parent: Value, of: &str, text: &str| {
        json!({ "uuid": uuid, "parentUuid": parent, "sessionId": ID, "type": of, "cwd": project,
            "timestamp": "2026-11-01T10:00:00.000Z",
            "message": { "role": of, "parts": [{ "text": text }] } })
    };
    let said =
        [record("u1", Value::Null, "user", "hi"), record("u2", "u1".into(), "assistant", "a")];
    let folder = format!(".qwen/projects/{}", folder(&project));
    let text = lines(&[&said, more].concat());
    sandbox.write(&format!("{folder}/chats/{ID}.jsonl"), text);
    folder
}

/// A record whose parent was lost, of a kind that a newer version passes over.
fn torn() -> Value {
    json!({ "uuid": "u9", "parentUuid": "lost", "type": "system", "cwd": "/" })
}

fn only(sandbox: &Sandbox) -> Session {
    let mut all = all_sessions(sandbox);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[test]
fn verdicts_are_those_of_the_installed_version() {
    for (version, wanted) in [
        (Some("0.15.10"), (Status::Invalid, Some("empty_transcript"))),
        (Some("0.24.4"), (Status::Active, None)),
        (Some("99.0.0"), (Status::Unknown, Some("depends_on_version"))),
        (None, (Status::Unknown, Some("depends_on_version"))),
    ] {
        let sandbox = Sandbox::new(BINARIES);
        match version {
            Some(version) => install(&sandbox, "qwen", version, "#!/bin/sh\n"),
            None => sandbox.link("qwen", &sandbox.script("qwen.sh", "#!/bin/sh\n")),
        }
        write_qwen(&sandbox, &[torn()]);
        let session = only(&sandbox);
        assert_eq!(verdict(&session), wanted, "listed with {version:?}");
        assert_eq!(verdict(&check(&sandbox, &session.id)), wanted, "checked with {version:?}");
        if wanted.0 == Status::Unknown {
            fault(&sandbox, &["resume", &session.id], 6);
            let forced = sandbox.sessctl(&["resume", "--force", "--plan", &session.id]);
            assert_eq!(forced.status, 0, "{forced:?}");
        }
    }
}

#[test]
fn abilities_and_doctor_follow_the_installed_version() {
    for (version, can) in [("0.15.10", false), ("0.24.4", true), ("99.0.0", true)] {
        let sandbox = Sandbox::new(BINARIES);
        install(&sandbox, "qwen", version, "#!/bin/sh\n");
        write_qwen(&sandbox, &[]);
        let session = only(&sandbox);
        let providers = answer(&sandbox, &["providers"]);
        let rows = providers["providers"].as_array().unwrap();
        let qwen = rows.iter().find(|row| row["name"] == "qwen").unwrap();
        assert_eq!(qwen["version"], version);
        let cells = [&qwen["capabilities"]["fork"], &qwen["capabilities"]["foreign_use"]];
        assert_eq!(cells, [can, can], "{version}");
        let words = ["resume", "--plan", "--fork", &session.id];
        if can {
            let plan = sandbox.sessctl(&words);
            assert!(plan.stdout.contains("--fork-session"), "{plan:?}");
        } else {
            let refused = fault(&sandbox, &words, 1);
            assert_eq!(refused.code, FaultCode::Unsupported);
            assert!(refused.message.contains("qwen 0.15.10 cannot fork"), "{refused:?}");
        }
        let doctor = sandbox.sessctl(&["doctor"]).stdout;
        let is_newer = doctor.contains("99.0.0 (newer than the tested 0.24.4)");
        assert_eq!(is_newer, version == "99.0.0", "{doctor}");
    }
}

#[test]
fn unknown_kinds_of_records_are_in_doctor() {
    let sandbox = Sandbox::new(BINARIES);
    write_qwen(&sandbox, &[json!({ "type": "dream", "uuid": "u3", "parentUuid": "u2" })]);
    only(&sandbox);
    let doctor = sandbox.sessctl(&["doctor"]).stdout;
    assert!(doctor.contains("1 kind of record unknown: dream"), "{doctor}");
}

#[test]
fn archived_session_of_qwen_is_not_gone_and_not_replaced() {
    let sandbox = Sandbox::new(BINARIES);
    install(&sandbox, "qwen", "0.24.4", "#!/bin/sh\n");
    let folder = write_qwen(&sandbox, &[]);
    let session = only(&sandbox);
    let folder = sandbox.home().join(folder);
    fs::create_dir(folder.join("chats/archive")).unwrap();
    let name = format!("{ID}.jsonl");
    fs::rename(folder.join("chats").join(&name), folder.join("chats/archive").join(&name)).unwrap();
    let archived = (Status::Archived, Some("archived_by_provider"));
    assert_eq!(verdict(&check(&sandbox, &session.id)), archived);
    run_job(&sandbox, "discovery");
    assert_eq!(verdict(&only(&sandbox)), archived);
    fault(&sandbox, &["send", "--fallback", "new", &session.id, "again"], 5);
    let still = show(&sandbox, &session.id);
    assert_eq!(still.provider_session_id.as_deref(), Some(ID));
    // Taken out again it is what it was.
    fs::rename(folder.join("chats/archive").join(&name), folder.join("chats").join(&name)).unwrap();
    assert_eq!(verdict(&check(&sandbox, &session.id)), (Status::Active, None));
}

#[test]
fn live_files_of_qwen_keep_a_second_writer_out() {
    let sandbox = Sandbox::new(BINARIES);
    install(&sandbox, "qwen", "0.24.4", "#!/bin/sh\n");
    write_qwen(&sandbox, &[]);
    let stranger = Stranger::new();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let start = format!("{}:{}", boot.trim(), stranger.ticks());
    let write = |start: &str, namespace: Option<u64>| {
        let record = json!({ "schemaVersion": 1, "pid": stranger.pid(), "sessionId": ID,
            "procStart": start, "pidNs": namespace, "startedAt": 1, "kind": "tui" });
        let name = format!(".qwen/sessions/{}.json", stranger.pid());
        sandbox.write(&name, record.to_string());
    };
    write(&start, None);
    let session = only(&sandbox);
    assert_eq!((session.live.state, session.live.pid), (LiveState::Open, Some(stranger.pid())));
    let refused = fault(&sandbox, &["send", &session.id, "again"], 4);
    let named = format!("process {} (sleep 600)", stranger.pid());
    assert!(refused.message.contains(&named), "{refused:?}");
    write(&format!("{}:1", boot.trim()), None);
    assert_eq!(show(&sandbox, &session.id).live.state, LiveState::None);
    // A pid of another pid namespace says nothing.
    write(&start, Some(1));
    assert_eq!(show(&sandbox, &session.id).live.state, LiveState::Unknown);
}

/// Writes a session of Claude Code.
fn write_claude(sandbox: &Sandbox, id: &str, before: &[Value], more: &[Value]) {
    let project = sandbox.dir("project");
    let record = |uuid: &str, parent: Value, of: &str, text: &str| {
        json!({ "uuid": uuid, "parentUuid": parent, "sessionId": id, "type": of, "cwd": project,
            "timestamp": "2026-11-01T10:00:00.000Z", "isSidechain": false,
            "message": { "role": of, "model": "m", "content": text } })
    };
    let said = [
        record("u1", Value::Null, "user", "my name is Ann"),
        record("u2", "u1".into(), "assistant", "hello"),
    ];
    let name = format!(".claude/projects/{}/{id}.jsonl", folder(&project));
    sandbox.write(&name, lines(&[before, &said, more].concat()));
}

/// A record that is written before the messages when they are copied.
fn copied() -> Value {
    json!({ "type": "queue-operation", "operation": "enqueue",
        "timestamp": "2026-11-02T10:00:00.000Z" })
}

fn of_provider_id<'a>(all: &'a [Session], id: &str) -> &'a Session {
    let found = all.iter().find(|session| session.provider_session_id.as_deref() == Some(id));
    found.unwrap_or_else(|| panic!("no {id} in {all:#?}"))
}

#[test]
fn key_follows_a_person_who_went_on_in_a_copy() {
    let sandbox = Sandbox::new(BINARIES);
    write_claude(&sandbox, ID, &[], &[]);
    let old = only(&sandbox);
    answer(&sandbox, &["key", "bind", "@person:1", &old.id]);
    answer(&sandbox, &["pin", &old.id]);
    let pointer = json!({ "type": "continued-in", "sessionId": ID, "continuedInSessionId": NEXT });
    write_claude(&sandbox, ID, &[], &[pointer]);
    run_job(&sandbox, "discovery");
    write_claude(&sandbox, NEXT, &[copied()], &[]);
    run_job(&sandbox, "discovery");
    let all = sessions(&sandbox, &["list"]);
    let (old, new) = (of_provider_id(&all, ID), of_provider_id(&all, NEXT));
    assert_eq!(new.parent_id.as_ref(), Some(&old.id));
    assert_eq!(show(&sandbox, "@person:1").id, new.id);
    assert!(new.pinned && old.pinned);
    assert_eq!(new.title.as_deref(), Some("my name is Ann"));
    assert_eq!(old.title.as_deref(), Some("my name is Ann (continued in bbbbbbbb)"));
    // Moved once: what the user does with the key afterwards stays.
    let old = old.id.clone();
    answer(&sandbox, &["key", "move", "@person:1", &old]);
    write_claude(&sandbox, NEXT, &[copied()], &[json!({ "type": "mode" })]);
    run_job(&sandbox, "discovery");
    assert_eq!(show(&sandbox, "@person:1").id, old);
}

#[test]
fn copy_has_its_original_as_parent_and_takes_no_key() {
    let sandbox = Sandbox::new(BINARIES);
    write_claude(&sandbox, ID, &[], &[]);
    let old = only(&sandbox);
    answer(&sandbox, &["key", "bind", "@person:1", &old.id]);
    write_claude(&sandbox, NEXT, &[copied()], &[]);
    run_job(&sandbox, "discovery");
    let all = sessions(&sandbox, &["list"]);
    let new = of_provider_id(&all, NEXT);
    assert_eq!(new.parent_id.as_ref(), Some(&old.id));
    assert_eq!(new.title.as_deref(), Some("my name is Ann (copy)"));
    assert_eq!(show(&sandbox, "@person:1").id, old.id);
}

#[test]
fn background_agent_is_attached_and_its_commands_are_named() {
    let sandbox = Sandbox::new(BINARIES);
    install(&sandbox, "claude", "2.1.332", "#!/bin/sh\n");
    write_claude(&sandbox, ID, &[], &[]);
    let stranger = Stranger::new();
    let record = json!({ "pid": stranger.pid(), "sessionId": ID, "procStart": stranger.ticks(),
        "kind": "bg", "jobId": "aaaaaaaa", "status": "idle" });
    let name = format!(".claude/sessions/{}.json", stranger.pid());
    sandbox.write(&name, record.to_string());
    let session = only(&sandbox);
    assert_eq!(session.live.what.as_deref(), Some("background agent aaaaaaaa"));
    let plan = sandbox.sessctl(&["resume", "--plan", &session.id]);
    assert!(plan.stdout.contains("claude attach aaaaaaaa"), "{plan:?}");
    let refused = fault(&sandbox, &["send", &session.id, "again"], 4);
    let hint = refused.hint.unwrap();
    for command in ["`claude attach aaaaaaaa`", "`claude stop aaaaaaaa`", "sessctl send --wait"] {
        assert!(hint.contains(command), "{hint}");
    }
}

#[test]
fn waiting_provider_is_told_at_once_and_its_cause_at_the_end() {
    let sandbox = Sandbox::new(BINARIES);
    let script = r#"#!/bin/sh
cat >/dev/null
for word; do case $word in --session-id=*) id=${word#*=} ;; esac; done
echo "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"$id\"}"
echo '{"type":"system","subtype":"retry","data":{"attempt":1,"maxRetries":10,"delayMs":60000}}'
echo 'Retrying in 60s (attempt 1/10): 429 slow down' >&2
exec sleep 600
"#;
    install(&sandbox, "qwen", "0.24.4", script);
    let project = sandbox.dir("project");
    let project = project.to_str().unwrap();
    let words = ["send", "--timeout", "3s", "--new", "qwen", "--cwd", project, "hello"];
    let late = fault(&sandbox, &words, 7);
    assert!(late.message.contains("429 slow down"), "{late:?}");
    let turns = answer(&sandbox, &["turns"]);
    let turn = turns["turns"][0]["id"].as_str().unwrap().to_owned();
    let request = TurnOutputRequest { turn_id: turn, ..TurnOutputRequest::default() };
    let output = sandbox.client().turn_output(request).unwrap();
    let retry = output.events.iter().find(|event| event.kind == EventType::Retry).unwrap();
    assert_eq!([&retry.data.0["attempt"], &retry.data.0["delay_ms"]], [1, 60_000]);
}
