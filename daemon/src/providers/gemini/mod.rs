//! Gemini CLI: one patch log per chat in a folder per directory, named by a slug.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::fs;
use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Kind, LaunchPlan, Status, Timestamp};

use super::environment::environment;
use super::file::open;
use super::home::home;
use super::{
    Accepts, Bound, Found, Home, Launch, LaunchFile, Listed, LiveSession, Provider, Retention,
    Stamp, TurnSpec, Unreadable, Verdict, listing, record,
};

mod chat;
mod flags;
mod settings;
mod stream;

use chat::Chat;

/// Gemini CLI.
pub struct Gemini;

impl Provider for Gemini {
    fn id(&self) -> &'static str {
        "gemini"
    }

    fn program(&self) -> &'static str {
        "gemini"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            choose_id: true,
            retention: true,
            ..Capabilities::default()
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "GEMINI_CLI_HOME",
            "GEMINI_API_KEY",
            "GEMINI_MODEL",
            "GEMINI_CLI_TRUST_WORKSPACE",
            "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
            "GOOGLE_API_KEY",
            "GOOGLE_GEMINI_BASE_URL",
            "GOOGLE_VERTEX_BASE_URL",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_CLOUD_LOCATION",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "GEMINI_CLI_HOME", ".gemini", ".gemini").into_iter().collect()
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let slugs = listing::folders(&store(home));
        let chats = slugs.iter().map(|slug| slug.join("chats")).filter(|chats| chats.is_dir());
        chats.chain([store(home)]).collect()
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut found = Vec::new();
        for slug in listing::root(&store(home))? {
            if slug.is_dir()? {
                discover_chats(&slug.path().join("chats"), &mut found)?;
            }
        }
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        // The file beside a resumed chat has its id and nothing but the context of the start.
        let chat = Chat::read(path).ok().filter(Chat::has_content)?;
        let scope = scope_of(home, path)?;
        let modified = Stamp::of(&open(path).ok()?.1).mtime_ns;
        let created_at = chat.start_time.unwrap_or(Timestamp::from_ns(modified));
        let verdict = judge(&chat);
        let launch_dir = launch_dir(home, &scope).unwrap_or_default();
        let title = chat.summary.as_deref().and_then(record::title);
        Some(Found {
            kind: if chat.is_subagent { Kind::Subagent } else { Kind::Interactive },
            cwd: (!launch_dir.is_empty()).then(|| launch_dir.clone()),
            launch_dir,
            title: title.or_else(|| chat.prompt().map(str::to_owned)),
            model: chat.model().map(str::to_owned),
            git_branch: None,
            created_at,
            last_activity: chat.last_updated.or(chat.last_message()).unwrap_or(created_at),
            parent: parent_of(path),
            verdict,
            provider_session_id: chat.session_id?,
            scope,
        })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        match locate(home, bound) {
            Ok(Some(chat)) => judge(&chat),
            Ok(None) => Verdict::new(Status::Expired, "transcript_missing"),
            Err(Unreadable::Missing) => Verdict::new(Status::Unknown, "home_missing"),
            Err(Unreadable::Denied(_)) => Verdict::new(Status::Unknown, "home_unreadable"),
        }
    }

    /// The CLI leaves no sign of running.
    fn live(&self, _home: &Home) -> Option<Vec<LiveSession>> {
        None
    }

    fn retention(&self, home: &Home) -> Option<Retention> {
        settings::retention(&home.path.join("settings.json"))
    }

    /// In the launch directory only: elsewhere the CLI does not find the chat.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        _cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        let args = vec![format!("--resume={}", bound.provider_session_id)];
        plan(home, &bound.launch_dir, args, launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        let args = id.map(|id| format!("--session-id={id}")).into_iter().collect();
        plan(home, cwd, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => format!("--resume={}", bound.provider_session_id),
            (None, id) => format!("--session-id={}", id.as_deref()?),
        };
        let args = vec!["--output-format=stream-json".to_owned(), session];
        Some(plan(home, &spec.cwd, args, &spec.launch))
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn launch_files(&self, home: &Home, launch: &Launch) -> Vec<LaunchFile> {
        flags::files(home, launch)
    }

    /// One that goes on with a chat empties it for a moment, and one that starts meanwhile deletes
    /// what it finds empty.
    fn at_once(&self) -> usize {
        1
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}

fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::arguments(launch));
    let program = Gemini.program().to_owned();
    let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
    flags::environment(launch, &mut plan);
    plan
}

fn store(home: &Home) -> PathBuf {
    home.path.join("tmp")
}

/// `session-*`, and what their subagents wrote in a folder of the session's id.
fn discover_chats(chats: &Path, found: &mut Vec<Listed>) -> Result<(), Unreadable> {
    for entry in listing::entries(chats)? {
        let name = entry.name();
        if name.starts_with("session-") && is_chat(&name) {
            found.extend(entry.listed()?);
        } else if entry.is_dir()? {
            listing::walk(listing::entries(&entry.path())?, 0, is_chat, found)?;
        }
    }
    Ok(())
}

fn is_chat(name: &str) -> bool {
    name.ends_with(".jsonl") || name.ends_with(".json")
}

/// The slug in the path of a chat.
fn scope_of(home: &Home, path: &Path) -> Option<String> {
    let slug = path.strip_prefix(store(home)).ok()?.iter().next()?;
    Some(slug.to_str()?.to_owned())
}

/// The chat whose subagent wrote this one: the folder, when it is not `chats` itself.
fn parent_of(path: &Path) -> Option<String> {
    let folder = path.parent()?.file_name()?.to_str()?;
    (folder != "chats").then(|| folder.to_owned())
}

/// The directory of a slug. Older homes name it only in the list of projects.
fn launch_dir(home: &Home, slug: &str) -> Option<String> {
    if let Ok(text) = fs::read_to_string(store(home).join(slug).join(".project_root")) {
        return Some(text.trim().to_owned()).filter(|path| !path.is_empty());
    }
    let bytes = fs::read(home.path.join("projects.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let mut projects = value.get("projects")?.as_object()?.iter();
    let (path, _) = projects.find(|(_, name)| name.as_str() == Some(slug))?;
    Some(path.clone())
}

/// The chat of a session: in its file, or wherever it was renamed to, as the id counts.
fn locate(home: &Home, bound: &Bound) -> Result<Option<Chat>, Unreadable> {
    let is_it = |chat: &Chat| chat.session_id.as_deref() == Some(&bound.provider_session_id);
    // A file that lost its id is still the one that was known by it.
    let known = Chat::read(Path::new(&bound.location)).ok();
    if let Some(chat) = known.filter(|chat| is_it(chat) || chat.session_id.is_none()) {
        return Ok(Some(chat));
    }
    let scope = store(home).join(&bound.scope);
    let listed = Gemini.discover(home)?;
    let paths = listed.iter().map(|listed| Path::new(&listed.location));
    let chats = paths
        .filter(|path| path.starts_with(&scope))
        .filter_map(|path| Chat::read(path).ok().filter(|chat| is_it(chat)));
    // Resuming leaves files with the same id beside the real one.
    Ok(chats.max_by_key(Chat::has_content))
}

/// The rules by which the CLI lists what can be resumed.
fn judge(chat: &Chat) -> Verdict {
    if !chat.has_header {
        return Verdict::new(Status::Invalid, "header_missing");
    }
    if chat.is_subagent {
        return Verdict::new(Status::Invalid, "subagent");
    }
    if chat.has_content() {
        Verdict::ACTIVE
    } else {
        Verdict::new(Status::Invalid, "empty_transcript")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_that_lost_its_header_is_invalid_and_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let chats = folder.path().join("tmp/app/chats");
        let path = chats.join("session-1.jsonl");
        fs::create_dir_all(&chats).unwrap();
        let location = path.to_str().unwrap().to_owned();
        let bound = Bound {
            provider_session_id: "s".to_owned(),
            scope: "app".to_owned(),
            location,
            launch_dir: "/".to_owned(),
        };
        let gone = Verdict::new(Status::Expired, "transcript_missing");
        assert_eq!(Gemini.check(&home, &bound), gone);
        for (text, reason) in [
            (r#"{"id":"1","type":"user","content":"hi"}"#, "header_missing"),
            ("all garbage", "header_missing"),
            ("", "header_missing"),
            (r#"{"sessionId":"s","projectHash":"h"}"#, "empty_transcript"),
        ] {
            fs::write(&path, text).unwrap();
            let verdict = Verdict::new(Status::Invalid, reason);
            assert_eq!(Gemini.check(&home, &bound), verdict, "{text}");
        }
    }
}
