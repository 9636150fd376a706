//! Promise: no transcript, database, prompt or file name makes memory or work unbounded. What is
//! too large is read as far as needed, or refused with words, and hides nothing else.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rustix::fs::inotify;
use serde_json::{Value, json};
use sessd_proto::turn::PROMPT_BYTES_MAX;
use sessd_proto::{Session, Status};
use sessd_tests::is_long;
use sessd_tests::report::figure;
use sessd_tests::sandbox::{Output, Sandbox};
use sessd_tests::wait::DEADLINE;

use crate::BINARIES;
use crate::bad_input::assert_fault;
use crate::odd_disks::sandbox;
use crate::scene::{all_sessions, check, run_job, verdict};

/// The most memory that the daemon may ever have taken, in bytes.
const PEAK_MAX: u64 = 120 << 20;

const AT: &str = "2026-11-21T08:00:00.000Z";

fn id(number: usize) -> String {
    format!("bbbbbbbb-0000-4000-8000-{number:012}")
}

/// Returns a number of bytes that the kernel has counted for the daemon.
fn counted(sandbox: &Sandbox, file: &str, name: &str) -> u64 {
    let pid = sandbox.daemon_pid().unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Asserts that the daemon stayed small, whatever it has read.
#[track_caller]
fn assert_small(sandbox: &Sandbox, after: &str) {
    let peak = counted(sandbox, "status", "VmHWM:") << 10;
    figure(&format!("{after}: peak {} MB", peak >> 20));
    assert!(peak < PEAK_MAX, "{} MB after {after}", peak >> 20);
}

/// A session that is as small as they usually are.
fn write_small(sandbox: &Sandbox) {
    write(sandbox, "qwen", 0, "a small one");
}

/// Writes a transcript of one prompt and an answer.
fn write(sandbox: &Sandbox, provider: &str, number: usize, prompt: &str) -> PathBuf {
    let (id, cwd) = (id(number), sandbox.home());
    let munged = cwd.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let claude = |of: &str, content: &str| {
        json!({ "type": of, "uuid": of, "timestamp": AT, "cwd": cwd, "entrypoint": "cli",
            "message": { "role": of, "model": "m", "content": content } })
    };
    let codex =
        |of: &str, payload: Value| json!({ "timestamp": AT, "type": of, "payload": payload });
    let qwen = |of: &str, parent: Option<&str>, text: &str| {
        json!({ "type": of, "uuid": of, "parentUuid": parent, "sessionId": id, "timestamp": AT,
            "cwd": cwd, "model": "m", "message": { "role": of, "parts": [{ "text": text }] } })
    };
    let meta = json!({ "id": id, "cwd": cwd, "source": "cli", "timestamp": AT, "originator": "o",
        "cli_version": "1" });
    let (path, lines) = match provider {
        "claude" => (
            format!(".claude/projects/{munged}/{id}.jsonl"),
            vec![claude("user", prompt), claude("assistant", "answer")],
        ),
        "codex" => (
            format!(".codex/sessions/2026/11/21/rollout-2026-11-21T08-00-00-{id}.jsonl"),
            vec![
                codex("session_meta", meta),
                codex("event_msg", json!({ "type": "user_message", "message": prompt })),
            ],
        ),
        "gemini" => {
            sandbox.write(".gemini/tmp/home/.project_root", cwd.to_str().unwrap());
            let header = json!({ "sessionId": id, "projectHash": "h", "startTime": AT,
                "lastUpdated": AT, "kind": "main" });
            let typed = json!({ "id": "1", "timestamp": AT, "type": "user", "content": prompt });
            let name = format!("session-2026-11-21T08-00-{number:08}.jsonl");
            (format!(".gemini/tmp/home/chats/{name}"), vec![header, typed])
        }
        "qwen" => (
            format!(".qwen/projects/{munged}/chats/{id}.jsonl"),
            vec![qwen("user", None, prompt), qwen("assistant", Some("user"), "answer")],
        ),
        other => panic!("{other}"),
    };
    let path = sandbox.write(&path, "");
    let mut file = File::create(&path).unwrap();
    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
    path
}

/// The provider's sessions after a sweep, by number.
fn found(sandbox: &Sandbox) -> Vec<Session> {
    run_job(sandbox, "discovery");
    let mut found = all_sessions(sandbox);
    found.sort_by(|a, b| a.provider_session_id.cmp(&b.provider_session_id));
    found
}

#[test]
fn prompt_is_read_no_further_than_to_its_limit() {
    let sandbox = Sandbox::new(BINARIES);
    let mut command = sandbox.command(BINARIES.sessctl);
    command.args(["send", "--new", "echo"]).stdin(Stdio::piped());
    let mut sent = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let (mut pipe, mut written) = (sent.stdin.take().unwrap(), 0);
    let error = loop {
        match pipe.write(&[b'x'; 4096]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(written < PROMPT_BYTES_MAX + (1 << 20), "{written} bytes were read");
    let output = sent.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("more than 1000000 bytes") && output.status.code() == Some(2), "{said}");
    let words = ["send", "--new", "echo", "--file", "/dev/zero", "explain"];
    assert_fault(&sandbox.sessctl(&words), 2, "an endless file");
}

/// Makes a database of OpenCode with one session, and changes it.
fn write_opencode(sandbox: &Sandbox, change: &str) {
    let path = sandbox.dir(".local/share/opencode").join("opencode.db");
    let database = Connection::open(path).unwrap();
    let tables = "CREATE TABLE session (id TEXT PRIMARY KEY, directory TEXT, time_created INTEGER,
            time_updated INTEGER, title TEXT);
        CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER,
            data TEXT);
        CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, data TEXT);
        INSERT INTO message VALUES ('m', 'ses_s', 1, '{\"role\":\"user\"}');
        INSERT INTO part VALUES ('p', 'm', '{\"type\":\"text\",\"text\":\"the prompt\"}');";
    database.execute_batch(tables).unwrap();
    let row = "INSERT INTO session VALUES ('ses_s', ?1, 1, 1, 'the title')";
    database.execute(row, [sandbox.home().to_str()]).unwrap();
    database.execute_batch(change).unwrap();
}

#[test]
fn what_a_database_defines_is_not_run() {
    const ENDLESS: &str = "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)";
    let views = [
        format!(
            "ALTER TABLE session RENAME TO real; CREATE VIEW session AS {ENDLESS}
            SELECT CAST(n AS TEXT) AS id, '/' AS directory, n AS time_created, n AS time_updated,
            't' AS title FROM r"
        ),
        format!(
            "ALTER TABLE part RENAME TO real; CREATE VIEW part AS {ENDLESS}
            SELECT 'p' AS id, 'm' AS message_id, NULL AS data FROM r"
        ),
    ];
    for view in views {
        let sandbox = sandbox();
        write_small(&sandbox);
        write_opencode(&sandbox, &view);
        let found = found(&sandbox);
        let providers: Vec<_> = found.iter().map(|it| &*it.provider).collect();
        assert_eq!(providers, ["qwen"]);
        let doctor = sandbox.sessctl(&["doctor"]).stdout;
        assert!(doctor.contains("is not a table"), "{doctor}");
        assert_small(&sandbox, "an endless view");
    }
}

#[test]
fn cell_of_any_size_is_not_loaded() {
    let size = if is_long() { 300_000_000 } else { 70_000_000 };
    let long = |column: &str| format!("{column} = hex(zeroblob({}))", size / 2);
    let rows = "INSERT INTO session SELECT column1, directory, 1, 1, title FROM session,
        (VALUES ('ses_t'), ('ses_u'))";
    let talk = "INSERT INTO message SELECT id || 't', 'ses_t', 1, data FROM message";
    let titles = long("title");
    for (what, change, title) in [
        ("titles", format!("{rows}; {talk}; UPDATE session SET {titles}"), Some("the prompt")),
        (
            "a part",
            format!("UPDATE session SET title = ''; UPDATE part SET {}", long("data")),
            None,
        ),
        ("a message", format!("UPDATE message SET {}", long("data")), Some("the title")),
        ("a directory", format!("UPDATE session SET {}", long("directory")), None),
    ] {
        let sandbox = sandbox();
        write_small(&sandbox);
        write_opencode(&sandbox, &change);
        let found = found(&sandbox);
        let session = found.iter().find(|it| it.provider_session_id.as_deref() == Some("ses_s"));
        let session = session.unwrap_or_else(|| panic!("{what}: {found:#?}"));
        assert_eq!(session.title.as_deref(), title, "{what}");
        let expected = match what {
            "a directory" => (Status::Unknown, Some("transcript_unreadable")),
            _ => (Status::Active, None),
        };
        assert_eq!(verdict(session), expected, "{what}");
        assert_eq!(verdict(&check(&sandbox, &session.id)), expected, "{what}");
        assert_small(&sandbox, what);
    }
}

#[test]
fn message_of_any_size_is_listed() {
    let size = if is_long() { 200_000_000 } else { 40_000_000 };
    let prompt = format!("the prompt {}", "word ".repeat(size / 5));
    for provider in ["claude", "codex", "gemini", "qwen"] {
        let sandbox = sandbox();
        // The first message, the last one, and several at the same time.
        (1..=3).for_each(|number| drop(write(&sandbox, provider, number, &prompt)));
        let last = write(&sandbox, provider, 4, "the prompt");
        let text = fs::read_to_string(&last).unwrap();
        let more = text.replace("answer", &prompt);
        let more = if more == text { text.replace("the prompt", &prompt) } else { more };
        fs::write(&last, text + &more).unwrap();
        drop(more);
        let found = found(&sandbox);
        assert_eq!(found.len(), 4, "{provider}");
        for session in found {
            let title = session.title.as_deref().unwrap_or_default();
            assert!(title.starts_with("the prompt"), "{provider}: {title:?}");
            assert_eq!(verdict(&session), (Status::Active, None), "{provider}");
            assert_eq!(verdict(&check(&sandbox, &session.id)), (Status::Active, None));
        }
        assert_small(&sandbox, provider);
    }
}

/// Puts a hole of 3 GB into a file, after so many of its lines.
fn insert_hole(path: &Path, lines: usize) {
    let text = fs::read_to_string(path).unwrap();
    let at: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let mut file = File::create(path).unwrap();
    file.write_all(&text.as_bytes()[..at]).unwrap();
    file.seek(SeekFrom::Current(3 << 30)).unwrap();
    write!(file, "\n{}", &text[at..]).unwrap();
}

#[test]
fn transcript_of_three_gigabytes_is_listed() {
    let sandbox = sandbox();
    for (number, provider) in ["claude", "codex", "qwen"].into_iter().enumerate() {
        let path = write(&sandbox, provider, number, "the prompt");
        let lines = if provider == "codex" { 2 } else { 1 };
        insert_hole(&path, lines);
    }
    let found = found(&sandbox);
    for session in &found {
        assert_eq!(session.title.as_deref(), Some("the prompt"));
        assert_eq!(verdict(&check(&sandbox, &session.id)), verdict(session));
        assert_eq!(session.status, Status::Active, "{session:?}");
    }
    assert_eq!(found.len(), 3);
    assert_small(&sandbox, "3 GB");
}

#[test]
fn line_that_is_too_long_to_be_read_is_refused_with_words() {
    let sandbox = sandbox();
    write_small(&sandbox);
    for (number, provider) in ["claude", "codex", "gemini"].into_iter().enumerate() {
        let path = write(&sandbox, provider, number + 1, "the prompt");
        File::create(path).unwrap().set_len(3 << 30).unwrap();
    }
    let found = found(&sandbox);
    let unreadable = (Status::Unknown, Some("transcript_unreadable"));
    let verdicts: Vec<_> = found.iter().map(verdict).collect();
    assert_eq!(verdicts, [(Status::Active, None), unreadable, unreadable]);
    let checked = check(&sandbox, &found[1].id);
    assert_eq!(verdict(&checked), unreadable);
    let listed = sandbox.sessctl(&["list"]).stderr;
    let doctor = sandbox.sessctl(&["doctor"]).stdout;
    for said in [listed, doctor] {
        assert!(said.contains("too large to be read") && said.contains("session-"), "{said}");
    }
    assert_small(&sandbox, "lines of 3 GB");
}

#[test]
fn chain_of_forks_costs_no_more_than_its_length() {
    let count = if is_long() { 3_000 } else { 300 };
    let sandbox = sandbox();
    for number in 0..count {
        let path = write(&sandbox, "codex", number, "the prompt");
        let base = number
            .checked_sub(1)
            .map(|before| json!({ "thread_id": id(before), "end_byte_offset": 100 }).to_string());
        let text = fs::read_to_string(&path).unwrap();
        let fork = format!("\"history_base\":{},\"source\"", base.unwrap_or("null".to_owned()));
        fs::write(&path, text.replacen("\"source\"", &fork, 1)).unwrap();
    }
    let whole = |found: &[Session]| {
        let active = found.iter().filter(|it| verdict(it) == (Status::Active, None));
        assert_eq!((active.count(), found.len()), (count, count));
    };
    whole(&found(&sandbox));
    let before = counted(&sandbox, "io", "rchar:");
    let checked = sandbox.json(&["check", "--all"]);
    whole(&serde_json::from_value::<Vec<Session>>(checked["sessions"].clone()).unwrap());
    let each = (counted(&sandbox, "io", "rchar:") - before) / count as u64;
    assert!(each < 64 << 10, "{each} bytes are read to check one of {count}");
    assert_small(&sandbox, "a chain of forks");
}

/// Counts how often anybody opens a directory.
fn opened(directory: &Path, meanwhile: impl FnOnce()) -> usize {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let events = inotify::WatchFlags::OPEN | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, directory, events).unwrap();
    meanwhile();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64 << 10];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut count = 0;
    while let Ok(event) = reader.next() {
        count += usize::from(event.file_name().is_none());
    }
    count
}

#[test]
fn check_of_many_that_are_gone_lists_their_home_a_few_times() {
    let count = if is_long() { 3_000 } else { 600 };
    for lost in [count / 3, count] {
        let sandbox = sandbox();
        let folder = sandbox.dir(".local/state/sessd/echo");
        sandbox
            .run(Command::new("chmod").arg("-R").arg("700").arg(sandbox.dir(".local")), DEADLINE);
        let path = |number: usize| folder.join(format!("{}.jsonl", id(number)));
        for number in 0..count {
            let record = json!({ "at": AT, "cwd": sandbox.home(), "role": "user", "text": "x" });
            fs::write(path(number), format!("{record}\n")).unwrap();
        }
        assert_eq!(found(&sandbox).len(), count);
        (0..lost).for_each(|number| fs::remove_file(path(number)).unwrap());
        let verdicts = |reason: &str, output: &Output| {
            assert_eq!(output.status, 0, "{}", output.stderr);
            output.stdout.lines().filter(|line| line.contains(reason)).count()
        };
        let reason = if lost == count { "home_held" } else { "transcript_missing" };
        for _ in 0..2 {
            let listed = opened(&folder, || {
                let checked = sandbox.sessctl(&["check", "--all"]);
                assert_eq!(verdicts(reason, &checked), lost);
            });
            assert!(listed <= 3 + count / 100, "listed {listed} times for {lost} of {count}");
        }
    }
}

#[test]
fn folder_of_many_long_names_is_listed() {
    let count = if is_long() { 100_000 } else { 2_000 };
    let sandbox = sandbox();
    let first = write(&sandbox, "claude", 0, "the prompt");
    let text = fs::read_to_string(&first).unwrap();
    // The longest name that a file can have; and one that is not text.
    let name = |number: usize| format!("{number:0>249}.jsonl");
    for number in 0..count {
        fs::write(first.with_file_name(name(number)), &text).unwrap();
    }
    let bytes = b"\xff\xfe.jsonl";
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
    fs::write(first.with_file_name(odd), &text).unwrap();
    run_job(&sandbox, "discovery");
    let status = sandbox.json(&["status"]);
    assert_eq!(status["sessions"], count + 1);
    assert_small(&sandbox, "a large folder");
}

#[test]
fn copies_in_one_folder_are_compared_by_reading_it_once() {
    let count = if is_long() { 5_000 } else { 300 };
    let sandbox = sandbox();
    let first = write(&sandbox, "claude", 0, "the prompt");
    let text = fs::read_to_string(&first).unwrap();
    // Written when the messages were copied.
    let later = json!({ "type": "queue-operation", "timestamp": "2026-11-22T08:00:00.000Z" });
    for number in 1..count {
        let copy = first.with_file_name(format!("{}.jsonl", id(number)));
        fs::write(copy, format!("{later}\n{text}")).unwrap();
    }
    let listed = opened(first.parent().unwrap(), || run_job(&sandbox, "discovery"));
    assert!(listed <= 5, "the folder was listed {listed} times");
    let copies = found(&sandbox).into_iter().filter(|it| it.parent_id.is_some()).count();
    assert!(copies > 0, "no copy was compared");
}
