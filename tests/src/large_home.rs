//! Makes a Claude Code home of many sessions with realistic sizes, the same every time.
//! Knows no sessd.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// The number of sessions in a project.
const PER_PROJECT: usize = 50;

const WORDS: &[&str] = &[
    "add", "async", "branch", "buffer", "build", "cache", "column", "commit", "config", "cron",
    "deploy", "error", "fix", "function", "handler", "header", "hook", "index", "lock", "merge",
    "message", "migrate", "parse", "path", "query", "queue", "refactor", "render", "request",
    "response", "retry", "route", "schema", "search", "server", "session", "socket", "stream",
    "struct", "test", "thread", "timeout", "token", "trait", "update", "user", "validate",
    "worker",
];

/// A generator of numbers that are random enough for sizes and words (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn words(&mut self, at_least: u64, below: u64) -> String {
        let count = at_least + self.next(below - at_least);
        let words = (0..count).map(|_| WORDS[self.next(WORDS.len() as u64) as usize]);
        words.collect::<Vec<_>>().join(" ")
    }

    fn uuid(&mut self) -> String {
        let bytes = u128::from(self.next(u64::MAX)) << 64 | u128::from(self.next(u64::MAX));
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid().to_string()
    }
}

/// Makes `sessions` transcripts below `home`, and the history of prompts that the CLI keeps;
/// returns the total size of the transcripts in bytes.
pub fn make(home: &Path, sessions: usize) -> u64 {
    let mut random = Random(0x5e55_d000_0000_0001);
    fs::create_dir_all(home.join(".claude")).expect("a home that can be written");
    let history = File::create(home.join(".claude/history.jsonl"));
    let mut history = BufWriter::new(history.expect("a home that can be written"));
    let mut bytes = 0;
    for number in 0..sessions {
        bytes += session(home, number, &mut random, &mut history);
    }
    history.flush().expect("a home that can be written");
    bytes
}

fn session(home: &Path, number: usize, random: &mut Random, history: &mut impl Write) -> u64 {
    let cwd = home.join(format!("work/project-{:04}", number / PER_PROJECT));
    fs::create_dir_all(&cwd).expect("a home that can be written");
    let munged: String = cwd
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let dir = home.join(".claude/projects").join(munged);
    fs::create_dir_all(&dir).expect("a home that can be written");
    let id = random.uuid();
    let path = dir.join(format!("{id}.jsonl"));
    // Many small sessions and a few large ones: a product of uniform factors is skewed enough.
    let turns = 1 + random.next(12) * random.next(12) * random.next(4) / 9 + random.next(8);
    let age = Duration::from_secs(60 + random.next(25 * 86_400));
    let started = SystemTime::now() - age;
    let mut transcript = Transcript { path: path.clone(), id, cwd, started, number: 0 };
    transcript.write(turns, random, history);
    let file = File::options().append(true).open(&path).expect("a home that can be written");
    file.set_modified(started).expect("a home that can be written");
    file.metadata().expect("a home that can be written").len()
}

struct Transcript {
    path: PathBuf,
    id: String,
    cwd: PathBuf,
    started: SystemTime,
    number: u64,
}

impl Transcript {
    fn write(&mut self, turns: u64, random: &mut Random, history: &mut impl Write) {
        let mut file =
            BufWriter::new(File::create(&self.path).expect("a home that can be written"));
        for _ in 0..turns {
            let tool = format!("toolu_{}", random.uuid());
            let prompt = random.words(5, 40);
            let entry = json!({ "display": prompt, "pastedContents": {},
                "timestamp": self.at(), "project": self.cwd, "sessionId": self.id });
            writeln!(history, "{entry}").expect("a home that can be written");
            let prompt = json!({ "role": "user", "content": prompt });
            let call = json!([{ "type": "tool_use", "id": tool, "name": "Bash",
                "input": { "command": random.words(3, 9) } }]);
            let output = random.words(10, 900);
            let result = json!({ "role": "user", "content": [{ "type": "tool_result",
                "tool_use_id": tool, "content": output, "is_error": false }] });
            let answer = json!([{ "type": "text", "text": random.words(20, 1_000) }]);
            for (kind, message) in [
                ("user", prompt),
                ("assistant", assistant(random, &call)),
                ("user", result),
                ("assistant", assistant(random, &answer)),
            ] {
                let record = self.record(kind, message, random);
                writeln!(file, "{record}").expect("a home that can be written");
            }
        }
        file.flush().expect("a home that can be written");
    }

    /// Returns the time of the present record, in milliseconds.
    fn at(&self) -> i64 {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = started.expect("a start after 1970").as_millis() as i64;
        started + self.number as i64 * 7_000
    }

    fn record(&mut self, kind: &str, message: Value, random: &mut Random) -> Value {
        self.number += 1;
        let at = self.at();
        json!({
            "parentUuid": null, "isSidechain": false, "userType": "external", "cwd": self.cwd,
            "sessionId": self.id, "version": "2.1.197", "gitBranch": "main", "type": kind,
            "message": message, "uuid": random.uuid(),
            "timestamp": sessd_proto::Timestamp(at).to_string(),
        })
    }
}

fn assistant(random: &mut Random, content: &Value) -> Value {
    json!({
        "id": format!("msg_{}", random.uuid()), "type": "message", "role": "assistant",
        "model": "large-home", "content": content, "stop_reason": "end_turn",
        "usage": { "input_tokens": random.next(5_000), "output_tokens": random.next(2_000) },
    })
}
