//! The built-in provider: it answers how many turns it has had and what it was told first.
//!
//! First runs, documentation and tests need no account. Its program is sessd itself, a real
//! child process with transcripts on disk, driven like any other provider.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Json, Kind, LaunchPlan, Status, Timestamp};

use super::head_tail::HeadTail;
use super::home::home;
use super::{
    Bound, Found, Home, Launch, Listed, LiveSession, Provider, Retention, TurnSpec, Unreadable,
    Verdict, listing, record,
};

/// The built-in provider.
pub struct Echo;

/// Selects its home.
const HOME: &str = "SESSD_ECHO_HOME";

/// One line of a transcript.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    at: Timestamp,
    cwd: String,
    role: Role,
    text: String,
    /// True if a person typed it.
    #[serde(default)]
    typed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    Echo,
}

impl Provider for Echo {
    fn id(&self) -> &'static str {
        "echo"
    }

    fn program(&self) -> &'static str {
        "/proc/self/exe"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            fork: false,
            resume_anywhere: true,
            send: true,
            choose_id: true,
            foreign_use: false,
            retention: false,
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        &[HOME]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let state = env.get("XDG_STATE_HOME").map(|state| format!("{state}/sessd/echo"));
        let default = state.unwrap_or_else(|| ".local/state/sessd/echo".to_owned());
        home(env, HOME, "", &default).into_iter().collect()
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        vec![home.path.clone()]
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut listed = Vec::new();
        let is_transcript = |name: &str| name.ends_with(".jsonl");
        listing::walk(listing::root(&home.path)?, 1, is_transcript, &mut listed)?;
        Ok(listed)
    }

    fn read(&self, _home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        let window = HeadTail::read(path, 64 * 1024).ok()?;
        let parse = |line: &[u8]| record::whole::<Record>(line);
        let first = window.head().find_map(parse)?;
        let last = window.tail_reversed().find_map(parse)?;
        Some(Found {
            provider_session_id: path.file_stem()?.to_str()?.to_owned(),
            kind: if first.typed { Kind::Interactive } else { Kind::Headless },
            launch_dir: first.cwd,
            cwd: Some(last.cwd),
            title: record::title(&first.text),
            model: Some("echo".to_owned()),
            created_at: first.at,
            last_activity: last.at,
            verdict: Verdict::ACTIVE,
            ..Found::default()
        })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        match self.discover(home) {
            Err(Unreadable::Missing) => Verdict::new(Status::Unknown, "home_missing"),
            Err(Unreadable::Denied(_)) => Verdict::new(Status::Unknown, "home_unreadable"),
            // Its first turn has not written yet.
            Ok(_) if bound.location.is_empty() => Verdict::new(Status::Unknown, "starting"),
            Ok(_) if !Path::new(&bound.location).exists() => {
                Verdict::new(Status::Expired, "transcript_missing")
            }
            Ok(_) => self
                .read(home, &bound.location)
                .map_or(Verdict::new(Status::Invalid, "empty_transcript"), |found| found.verdict),
        }
    }

    fn live(&self, _home: &Home) -> Option<Vec<LiveSession>> {
        None
    }

    fn retention(&self, _home: &Home) -> Option<Retention> {
        None
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, &bound.provider_session_id, cwd.unwrap_or(&bound.launch_dir), &[], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, id.unwrap_or_default(), cwd, &[], launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let resumed = spec.resume.as_ref().map(|bound| &bound.provider_session_id);
        let id = resumed.or(spec.new_id.as_ref())?;
        Some(plan(home, id, &spec.cwd, &["--once"], &spec.launch))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return Vec::new() };
        let text = value["text"].as_str().map(str::to_owned);
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let data = Json(value["data"].clone());
        vec![Event { kind, text, data, ..Event::default() }]
    }
}

fn plan(home: &Home, id: &str, cwd: &str, more: &[&str], launch: &Launch) -> LaunchPlan {
    // The client executes this plan too, so the program cannot be /proc/self/exe there.
    let program = std::env::current_exe().unwrap_or_else(|_| "sessd".into());
    let path = home.path.to_string_lossy();
    let args = ["echo", "--home", &*path, "--session", id].into_iter().chain(more.iter().copied());
    LaunchPlan {
        program: installed(&program.to_string_lossy()).to_owned(),
        args: args.map(str::to_owned).chain(launch.args.clone()).collect(),
        cwd: cwd.to_owned(),
        env: home.env.clone(),
    }
}

/// Where the program is: the kernel adds a word once another one was installed in its place.
fn installed(exe: &str) -> &str {
    exe.strip_suffix(" (deleted)").unwrap_or(exe)
}

/// The agent itself: answers standard input, once as a whole or line by line.
///
/// # Errors
/// Those of its transcript, its input and its output.
pub fn converse(home: &Path, id: &str, once: bool) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    let path = home.join(format!("{id}.jsonl"));
    let mut out = io::stdout().lock();
    if once {
        let mut prompt = String::new();
        io::stdin().read_to_string(&mut prompt)?;
        if prompt.trim().is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is no prompt"));
        }
        let say = |out: &mut io::StdoutLock<'_>, line| writeln!(out, "{line}");
        say(&mut out, json!({ "type": "started", "data": { "provider_session_id": id } }))?;
        let answer = answer(&path, prompt.trim_end(), false)?;
        say(&mut out, json!({ "type": "text", "text": answer }))?;
        return say(&mut out, json!({ "type": "result", "text": answer }));
    }
    for record in records(&path)? {
        let mark = if record.role == Role::User { "> " } else { "" };
        writeln!(out, "{mark}{}", record.text)?;
    }
    let mut prompts = io::stdin().lock().lines();
    loop {
        write!(out, "> ")?;
        out.flush()?;
        match prompts.next() {
            None => return writeln!(out),
            Some(prompt) => writeln!(out, "{}", answer(&path, &prompt?, true)?)?,
        }
    }
}

/// Appends a prompt and its answer to the transcript.
fn answer(path: &Path, prompt: &str, typed: bool) -> io::Result<String> {
    let earlier = records(path)?;
    let prompts = || earlier.iter().filter(|record| record.role == Role::User);
    let first = prompts().next().map_or(prompt, |record| &record.text);
    let text = format!("turn {}, and you began with: {first}", prompts().count() + 1);
    let cwd = std::env::current_dir()?.to_string_lossy().into_owned();
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    for (role, text) in [(Role::User, prompt), (Role::Echo, &text)] {
        let at = crate::clock::now();
        let record = Record { at, cwd: cwd.clone(), role, text: text.to_owned(), typed };
        let line = serde_json::to_string(&record).map_err(io::Error::other)?;
        file.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(text)
}

fn records(path: &Path) -> io::Result<Vec<Record>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_found_after_sessd_was_replaced() {
        assert_eq!(installed("/usr/bin/sessd (deleted)"), "/usr/bin/sessd");
        assert_eq!(installed("/usr/bin/sessd"), "/usr/bin/sessd");
    }

    #[test]
    fn a_session_that_is_still_starting_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: Default::default() };
        let verdict = Echo.check(&home, &Bound::default());
        assert_eq!(verdict, Verdict::new(Status::Unknown, "starting"));
    }
}
