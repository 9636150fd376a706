//! Qwen Code: one JSONL transcript per session in a folder per directory.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::io;
use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Kind, LaunchPlan, Status};

use super::environment::environment;
use super::home::home;
use super::listing;
use super::{Accepts, Bound, Found, Home, Launch, LaunchFile, Listed, LiveSession, Provider};
use super::{Retention, TurnSpec, Unreadable, Verdict};

mod flags;
mod stream;
mod transcript;

/// Qwen Code.
pub struct Qwen;

/// Selects settings and transcripts.
const HOME: &str = "QWEN_HOME";

/// Selects the transcripts alone.
const RUNTIME: &str = "QWEN_RUNTIME_DIR";

impl Provider for Qwen {
    fn id(&self) -> &'static str {
        "qwen"
    }

    fn program(&self) -> &'static str {
        "qwen"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            choose_id: true,
            ..Capabilities::default()
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "QWEN_HOME",
            "QWEN_RUNTIME_DIR",
            "QWEN_MODEL",
            "QWEN_DEFAULT_AUTH_TYPE",
            "QWEN_CODE_SYSTEM_SETTINGS_PATH",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_MODEL",
            "DASHSCOPE_API_KEY",
            "OPENROUTER_API_KEY",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_MODEL",
            "GEMINI_API_KEY",
            "GEMINI_MODEL",
            "GOOGLE_API_KEY",
            "GOOGLE_MODEL",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let whole = home(env, HOME, "", ".qwen");
        let moved = env.get(RUNTIME).and(home(env, RUNTIME, "", ""));
        let Some(mut home) = moved.or_else(|| whole.clone()) else { return Vec::new() };
        for variable in [HOME, RUNTIME] {
            home.env.insert(variable.to_owned(), env.get(variable).map(str::to_owned));
        }
        vec![home]
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let projects = projects(home);
        let chats = listing::folders(&projects).into_iter().map(|project| project.join("chats"));
        chats.filter(|chats| chats.is_dir()).chain([projects.clone()]).collect()
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut found = Vec::new();
        for project in listing::root(&projects(home))? {
            if project.is_dir()? {
                let [chats, subagents] =
                    ["chats", "subagents"].map(|name| listing::entries(&project.path().join(name)));
                listing::walk(chats?, 0, is_transcript, &mut found)?;
                listing::walk(subagents?, 1, is_transcript, &mut found)?;
            }
        }
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let place = Place::of(home, Path::new(location))?;
        let mut found = transcript::read(Path::new(location), &place.folder)?;
        found.verdict = place.judge(found.verdict);
        if place.is_subagent {
            found.kind = Kind::Subagent;
            found.parent = place.parent;
        }
        found.provider_session_id = place.stem;
        found.scope = place.folder;
        Some(found)
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = transcript_of(home, bound);
        let Some(place) = Place::of(home, &path) else { return absent(home) };
        match transcript::check(&path, &place.folder) {
            Ok(verdict) => place.judge(verdict),
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent(home),
            Err(_) => Verdict::new(Status::Unknown, "transcript_unreadable"),
        }
    }

    /// The CLI leaves no sign of running.
    fn live(&self, _home: &Home) -> Option<Vec<LiveSession>> {
        None
    }

    /// It deletes nothing by age.
    fn retention(&self, _home: &Home) -> Option<Retention> {
        None
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn launch_files(&self, _home: &Home, launch: &Launch) -> Vec<LaunchFile> {
        flags::files(launch)
    }

    /// In the launch directory only: elsewhere the CLI does not find the session.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        _cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, &bound.launch_dir, vec![resume(bound)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => resume(bound),
            (None, id) => session_id(id.as_deref()?),
        };
        let args = vec!["--output-format=stream-json".to_owned(), session];
        Some(plan(home, &spec.cwd, args, &spec.launch))
    }

    /// A command that it answers by itself, and a session that it does not write down.
    fn plan_tools(
        &self,
        home: &Home,
        cwd: &str,
        launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        let args = ["--output-format=stream-json", "--chat-recording=false"].map(str::to_owned);
        Some((plan(home, cwd, args.into(), launch), "/stats"))
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }
}

fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::of(launch));
    let program = Qwen.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

fn resume(bound: &Bound) -> String {
    format!("--resume={}", bound.provider_session_id)
}

fn session_id(id: &str) -> String {
    format!("--session-id={id}")
}

fn projects(home: &Home) -> PathBuf {
    home.path.join("projects")
}

fn is_transcript(name: &str) -> bool {
    name.ends_with(".jsonl")
}

/// What the path of a transcript says: `<folder>/chats/<id>.jsonl`, and
/// `<folder>/subagents/<id of the session>/agent-<id>.jsonl`.
struct Place {
    stem: String,
    folder: String,
    is_subagent: bool,
    /// The session that started the subagent.
    parent: Option<String>,
}

impl Place {
    fn of(home: &Home, path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?.to_owned();
        let mut folders = path.strip_prefix(projects(home)).ok()?.parent()?.iter();
        let mut next = || folders.next().and_then(|name| name.to_str()).map(str::to_owned);
        let folder = next()?;
        let is_subagent = next()? == "subagents";
        Some(Self { stem, folder, is_subagent, parent: next().filter(|_| is_subagent) })
    }

    /// What the path adds to the verdict on the records.
    fn judge(&self, verdict: Verdict) -> Verdict {
        if self.is_subagent {
            return Verdict::new(Status::Invalid, "subagent");
        }
        if !is_id(&self.stem) {
            return Verdict::new(Status::Invalid, "malformed_id");
        }
        verdict
    }
}

/// What is no UUID, as the CLI knows them, is looked up as a title.
fn is_id(text: &str) -> bool {
    let (id, agent) = text.split_at_checked(36).unwrap_or((text, ""));
    let digits = |at: usize| id.as_bytes().get(at).copied().unwrap_or_default();
    let is_known = matches!(digits(14), b'1'..=b'5')
        && matches!(digits(19).to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    let is_uuid = id.len() == 36 && uuid::Uuid::parse_str(id).is_ok();
    is_uuid && is_known && (agent.is_empty() || agent.starts_with("-agent-"))
}

/// Where the transcript was last seen, else where the CLI would write it.
fn transcript_of(home: &Home, bound: &Bound) -> PathBuf {
    if Path::new(&bound.location).is_file() {
        return PathBuf::from(&bound.location);
    }
    let name = format!("{}.jsonl", bound.provider_session_id);
    projects(home).join(&bound.scope).join("chats").join(name)
}

/// A transcript that is not there is gone only if the store could be listed.
fn absent(home: &Home) -> Verdict {
    match Qwen.discover(home) {
        Ok(_) => Verdict::new(Status::Expired, "transcript_missing"),
        Err(Unreadable::Missing) => Verdict::new(Status::Unknown, "home_missing"),
        Err(Unreadable::Denied(_)) => Verdict::new(Status::Unknown, "home_unreadable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcripts_may_live_apart_from_the_settings() {
        let env = |pairs: &[(&str, &str)]| {
            Environment(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let homes = |pairs| Qwen.homes(&env(pairs));
        let default = homes(&[("HOME", "/h")]).remove(0);
        assert_eq!(default.path, Path::new("/h/.qwen"));
        assert_eq!(default.env, [(HOME.to_owned(), None), (RUNTIME.to_owned(), None)].into());
        let moved = homes(&[("HOME", "/h"), (HOME, "/q"), (RUNTIME, "/r")]).remove(0);
        assert_eq!(moved.path, Path::new("/r"));
        assert_eq!(moved.env[HOME].as_deref(), Some("/q"));
        assert_eq!(moved.env[RUNTIME].as_deref(), Some("/r"));
        assert_eq!(homes(&[("HOME", "/h"), (HOME, "/q")])[0].path, Path::new("/q"));
        assert_eq!(homes(&[("HOME", "/h"), (RUNTIME, "relative")])[0].path, Path::new("/h/.qwen"));
    }

    #[test]
    fn ids_are_those_that_the_cli_takes_for_one() {
        assert!(is_id("11111111-1111-4111-8111-111111111111"));
        assert!(is_id("11111111-1111-4111-8111-111111111111-agent-one"));
        for text in ["", "not-an-id", "11111111-1111-7111-8111-111111111111", "é"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
