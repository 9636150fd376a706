//! Claude Code: one JSONL transcript per session in a folder per project.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Kind, LaunchPlan, Status};

use super::environment::environment;
use super::home::home;
use super::listing;
use super::{
    Accepts, Basis, Bound, Found, Home, Launch, LaunchFile, Listed, LiveSession, Provider,
    Retention, TurnSpec, Unreadable, Verdict,
};

mod flags;
mod live;
mod stream;
mod transcript;

/// Claude Code.
pub struct Claude;

impl Provider for Claude {
    fn id(&self) -> &'static str {
        "claude"
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            fork: true,
            resume_anywhere: true,
            choose_id: true,
            foreign_use: true,
            retention: true,
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CLAUDE_CONFIG_DIR",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_MODEL",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_VERTEX",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_BEARER_TOKEN_BEDROCK",
            "ANTHROPIC_VERTEX_PROJECT_ID",
            "CLOUD_ML_REGION",
            "NODE_EXTRA_CA_CERTS",
            "IS_SANDBOX",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "CLAUDE_CONFIG_DIR", "", ".claude").into_iter().collect()
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let projects = projects(home);
        let mut watched = listing::folders(&projects);
        watched.extend([projects, home.path.join("sessions")]);
        watched
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        listing::each(listing::root(&projects(home))?, |project, found| {
            if project.is_dir()? { discover_project(&project.path(), found) } else { Ok(()) }
        })
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let place = Place::of(home, location)?;
        let mut found = transcript::read(Path::new(location))?;
        found.provider_session_id = place.stem;
        found.scope = place.scope;
        if place.is_subagent {
            found.kind = Kind::Subagent;
            found.parent = place.parent;
            found.verdict = SUBAGENT;
        }
        Some(found)
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = transcript_of(home, bound);
        let place = Place::of(home, &path.to_string_lossy());
        match transcript::check(&path) {
            Ok(_) if place.is_some_and(|place| place.is_subagent) => SUBAGENT,
            Ok(verdict) => verdict,
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent(home),
            Err(_) => Verdict::new(Status::Unknown, "transcript_unreadable"),
        }
    }

    fn live(&self, home: &Home) -> Option<Vec<LiveSession>> {
        live::read(&home.path.join("sessions"))
    }

    fn retention(&self, home: &Home) -> Option<Retention> {
        let days = cleanup_days(&home.path.join("settings.json"))?;
        Some(Retention { basis: Basis::Modified, age_ms: days.checked_mul(86_400_000)? })
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        let cwd = cwd.unwrap_or(&bound.launch_dir);
        plan(home, cwd, vec![resume(home, bound, cwd)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let mut args = headless();
        match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => args.push(resume(home, bound, &spec.cwd)),
            (None, id) => args.extend(id.as_deref().map(session_id)),
        }
        Some(without_retries(plan(home, &spec.cwd, args, &spec.launch)))
    }

    /// A command that it carries out by itself, after its servers have been started.
    fn plan_tools(
        &self,
        home: &Home,
        cwd: &str,
        launch: &Launch,
    ) -> Option<(LaunchPlan, &'static str)> {
        let mut args = headless();
        args.push("--no-session-persistence".to_owned());
        Some((without_retries(plan(home, cwd, args, launch)), "/cost"))
    }

    fn plan_fork_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let mut plan = self.plan_turn(home, spec)?;
        let id = spec.new_id.as_deref().map(session_id);
        plan.args.extend([Some("--fork-session".to_owned()), id].into_iter().flatten());
        Some(plan)
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn refuses(&self, launch: &Launch, env: &Environment) -> Option<String> {
        flags::refuses(launch, env, rustix::process::geteuid().is_root())
    }

    fn launch_files(&self, _home: &Home, launch: &Launch) -> Vec<LaunchFile> {
        flags::files(launch)
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn plan_fork(
        &self,
        home: &Home,
        bound: &Bound,
        id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = vec![resume(home, bound, cwd), "--fork-session".to_owned()];
        args.extend(id.map(session_id));
        plan(home, cwd, args, launch)
    }
}

fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(flags::arguments(launch));
    let program = Claude.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

fn headless() -> Vec<String> {
    ["-p", "--output-format=stream-json", "--verbose", "--include-partial-messages"]
        .map(str::to_owned)
        .into()
}

/// They would hide failures for minutes; the deadline is ours. An answer that breaks off would be
/// asked for once more without a stream, and follow its own first half.
fn without_retries(mut plan: LaunchPlan) -> LaunchPlan {
    for (name, value) in
        [("CLAUDE_CODE_MAX_RETRIES", "0"), ("CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1")]
    {
        plan.env.insert(name.to_owned(), Some(value.to_owned()));
    }
    plan
}

/// An id is only looked up in the project of the directory, a path anywhere.
fn resume(home: &Home, bound: &Bound, cwd: &str) -> String {
    if cwd == bound.launch_dir {
        return format!("--resume={}", bound.provider_session_id);
    }
    format!("--resume={}", transcript_of(home, bound).display())
}

fn session_id(id: &str) -> String {
    format!("--session-id={id}")
}

/// A subagent's transcript is there, but the CLI finds no conversation in it.
const SUBAGENT: Verdict = Verdict::new(Status::Invalid, "subagent");

fn projects(home: &Home) -> PathBuf {
    home.path.join("projects")
}

fn is_transcript(name: &str) -> bool {
    name.ends_with(".jsonl")
}

/// `<project>/<id>.jsonl`, and what its subagents wrote under `<project>/<id>/subagents/`.
fn discover_project(project: &Path, found: &mut Vec<Listed>) -> Result<(), Unreadable> {
    for entry in listing::entries(project)? {
        if is_transcript(&entry.name()) {
            found.extend(entry.listed()?);
        } else if entry.is_dir()? {
            let subagents = listing::entries(&entry.path().join("subagents"))?;
            listing::walk(subagents, 4, is_transcript, found)?;
        }
    }
    Ok(())
}

/// What the path of a transcript says.
struct Place {
    stem: String,
    scope: String,
    is_subagent: bool,
    /// The session that started the subagent, where the path names it.
    parent: Option<String>,
}

impl Place {
    fn of(home: &Home, location: &str) -> Option<Self> {
        let path = Path::new(location);
        let stem = path.file_stem()?.to_str()?.to_owned();
        let inside = path.strip_prefix(projects(home)).ok()?;
        let mut folders = inside.parent()?.iter();
        let scope = folders.next()?.to_str()?.to_owned();
        let parent = folders.next().and_then(|name| name.to_str()).map(str::to_owned);
        // Older versions put the transcripts of subagents beside those of sessions.
        let is_subagent = parent.is_some() || stem.starts_with("agent-");
        Some(Self { stem, scope, is_subagent, parent })
    }
}

/// Where the transcript was last seen, else where the CLI would write it.
fn transcript_of(home: &Home, bound: &Bound) -> PathBuf {
    if Path::new(&bound.location).is_file() {
        return PathBuf::from(&bound.location);
    }
    let name = format!("{}.jsonl", bound.provider_session_id);
    projects(home).join(&bound.scope).join(name)
}

/// A transcript that is not there is gone only if the store could be listed.
fn absent(home: &Home) -> Verdict {
    match Claude.discover(home) {
        Ok(_) => Verdict::new(Status::Expired, "transcript_missing"),
        Err(Unreadable::Missing) => Verdict::new(Status::Unknown, "home_missing"),
        Err(Unreadable::Denied(_)) => Verdict::new(Status::Unknown, "home_unreadable"),
    }
}

/// After how many days the CLI deletes. With settings it cannot read it deletes nothing, and
/// 0 is refused by some versions and means "keep nothing" to others: nothing to predict.
fn cleanup_days(settings: &Path) -> Option<i64> {
    const DEFAULT: i64 = 30;
    let bytes = match fs::read(settings) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(DEFAULT),
        read => read.ok()?,
    };
    let settings: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    match settings.get("cleanupPeriodDays") {
        None => Some(DEFAULT),
        Some(days) => days.as_i64().filter(|days| *days > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_predicted_only_from_settings_the_cli_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("settings.json");
        assert_eq!(cleanup_days(&settings), Some(30));
        for (text, days) in [
            (r#"{"cleanupPeriodDays":5}"#, Some(5)),
            (r#"{"model":"x"}"#, Some(30)),
            (r#"{"cleanupPeriodDays":0}"#, None),
            (r#"{"cleanupPeriodDays":"#, None),
        ] {
            fs::write(&settings, text).unwrap();
            assert_eq!(cleanup_days(&settings), days, "{text}");
        }
    }
}
