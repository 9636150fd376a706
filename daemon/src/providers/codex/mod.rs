//! Codex: one JSONL rollout per session in a folder per day; archived ones lie apart.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, LaunchPlan, Status};
use uuid::Uuid;

use super::environment::environment;
use super::home::home;
use super::listing::{self, Entry};
use super::{
    Accepts, Bound, Found, Home, Launch, Listed, LiveSession, Provider, Retention, TurnSpec,
    Unreadable, Verdict,
};

mod flags;
mod live;
mod other_servers;
mod rollout;
mod stream;

use rollout::{Base, Rollout};

/// Codex.
pub struct Codex;

const SESSIONS: &str = "sessions";
const ARCHIVED: &str = "archived_sessions";

impl Provider for Codex {
    fn id(&self) -> &'static str {
        "codex"
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            fork: true,
            resume_anywhere: true,
            foreign_use: true,
            ..Capabilities::default()
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CODEX_HOME",
            "CODEX_SQLITE_HOME",
            "CODEX_API_KEY",
            "CODEX_ACCESS_TOKEN",
            "CODEX_CA_CERTIFICATE",
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "OPENAI_ORGANIZATION",
            "OPENAI_PROJECT",
            "AZURE_OPENAI_API_KEY",
            "SSL_CERT_FILE",
        ]
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        home(env, "CODEX_HOME", "", ".codex").into_iter().collect()
    }

    /// New rollouts appear in the folder of the day, new days in the newest folders above it.
    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let mut watched = vec![home.path.join(ARCHIVED), home.path.join("thread-writer-locks")];
        let mut newest = Some(home.path.join(SESSIONS));
        while let Some(folder) = newest {
            newest = listing::folders(&folder).into_iter().max();
            watched.push(folder);
        }
        watched
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut found = Vec::new();
        // Without `sessions` nothing is known: it exists from the first session on.
        listing::walk(listing::root(&home.path.join(SESSIONS))?, 3, is_rollout, &mut found)?;
        let archived: Vec<Entry> = listing::entries(&home.path.join(ARCHIVED))?;
        listing::walk(archived, 0, is_rollout, &mut found)?;
        Ok(found)
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        let rollout = rollout::open(Path::new(location)).ok()?;
        let verdict = judge(home, location, &rollout);
        let id = match &rollout.meta {
            Some(meta) => meta.id.clone(),
            None => id_in_name(location)?.to_owned(),
        };
        Some(Found { provider_session_id: id, verdict, ..rollout.found()? })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        // The CLI takes a malformed id for the wish to start a new session.
        if !is_uuid(&bound.provider_session_id) {
            return MALFORMED;
        }
        let location = match locate(home, bound) {
            Ok(Some(location)) => location,
            Ok(None) => return Verdict::new(Status::Expired, "transcript_missing"),
            Err(error) => return unknown(&error),
        };
        match rollout::open(Path::new(&location)) {
            Ok(rollout) => judge(home, &location, &rollout),
            Err(_) => Verdict::new(Status::Unknown, "transcript_unreadable"),
        }
    }

    fn live(&self, home: &Home) -> Option<Vec<LiveSession>> {
        live::read(&home.path.join("thread-writer-locks"))
    }

    fn retention(&self, _home: &Home) -> Option<Retention> {
        None
    }

    /// Without a daemon: one would keep the session locked after the person has left.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = vec!["resume".to_owned(), "--no-daemon".to_owned()];
        args.extend(flags::profile(launch));
        args.extend(flags::arguments(launch));
        if let Some(cwd) = cwd {
            // Answers the question which of the two directories is meant.
            args.extend(["-C".to_owned(), cwd.to_owned()]);
        }
        args.push(bound.provider_session_id.clone());
        plan(home, cwd.unwrap_or(&bound.launch_dir), args, launch)
    }

    fn plan_new(&self, home: &Home, _id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        let mut args = vec!["--no-daemon".to_owned()];
        args.extend(flags::profile(launch));
        args.extend(flags::arguments(launch));
        plan(home, cwd, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        Some(turn(home, spec, "resume"))
    }

    fn plan_fork_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        Some(turn(home, spec, "fork"))
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn refuses(&self, launch: &Launch, env: &Environment) -> Option<String> {
        flags::refuses(launch, self.environment(), env)
    }

    fn without_other_servers(&self, home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
        other_servers::switch_off(home, launch, plan);
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn plan_fork(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let mut args = ["fork", "--no-daemon", "-C", cwd].map(str::to_owned).to_vec();
        args.extend(flags::profile(launch));
        args.extend(flags::arguments(launch));
        args.push(bound.provider_session_id.clone());
        plan(home, cwd, args, launch)
    }
}

/// One prompt, to a new thread or to one that is continued in this way.
fn turn(home: &Home, spec: &TurnSpec, how: &str) -> LaunchPlan {
    let mut args = vec!["exec".to_owned()];
    args.extend(flags::profile(&spec.launch));
    args.extend(spec.resume.as_ref().map(|_| how.to_owned()));
    args.extend(["--json", "--skip-git-repo-check"].map(str::to_owned));
    args.extend(flags::arguments(&spec.launch));
    args.push("--".to_owned());
    args.extend(spec.resume.as_ref().map(|bound| bound.provider_session_id.clone()));
    // The prompt comes on standard input.
    args.push("-".to_owned());
    plan(home, &spec.cwd, args, &spec.launch)
}

fn plan(home: &Home, cwd: &str, args: Vec<String>, launch: &Launch) -> LaunchPlan {
    let program = Codex.program().to_owned();
    let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
    flags::environment(launch, &mut plan);
    plan
}

const MALFORMED: Verdict = Verdict::new(Status::Invalid, "malformed_id");

fn is_rollout(name: &str) -> bool {
    name.starts_with("rollout-") && (name.ends_with(".jsonl") || name.ends_with(".jsonl.zst"))
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok()
}

/// The id at the end of a rollout's name.
fn id_in_name(location: &str) -> Option<&str> {
    let name = Path::new(location).file_name()?.to_str()?;
    let stem = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".jsonl")?;
    stem.get(stem.len().checked_sub(36)?..).filter(|id| is_uuid(id))
}

/// Where the rollout is: archiving moves it, resuming a compressed one replaces it.
fn locate(home: &Home, bound: &Bound) -> Result<Option<String>, Unreadable> {
    if Path::new(&bound.location).is_file() {
        return Ok(Some(bound.location.clone()));
    }
    let rollouts = Codex.discover(home)?;
    let found = rollout_of(&rollouts, &bound.provider_session_id);
    Ok(found.map(|listed| listed.location.clone()))
}

fn rollout_of<'a>(rollouts: &'a [Listed], id: &str) -> Option<&'a Listed> {
    rollouts.iter().find(|listed| id_in_name(&listed.location) == Some(id))
}

/// The rules of the CLI, in its order.
fn judge(home: &Home, location: &str, rollout: &Rollout) -> Verdict {
    if let Some(fault) = rollout.fault {
        return Verdict::new(Status::Invalid, fault);
    }
    if rollout.meta.as_ref().is_some_and(|meta| !is_uuid(&meta.id)) {
        return MALFORMED;
    }
    if let Some(base) = rollout.meta.as_ref().and_then(|meta| meta.base.as_ref()) {
        match lineage(home, base) {
            Ok(None) => {}
            Ok(Some(fault)) => return Verdict::new(Status::Invalid, fault),
            Err(error) => return unknown(&error),
        }
    }
    if Path::new(location).starts_with(home.path.join(ARCHIVED)) {
        return Verdict::new(Status::Archived, "archived_by_provider");
    }
    Verdict::ACTIVE
}

/// Why the CLI would refuse a fork: it holds only what came after it, so each of its ancestors
/// must be there, and as long as it was.
fn lineage(home: &Home, base: &Base) -> Result<Option<&'static str>, Unreadable> {
    const GENERATIONS: usize = 100;
    const BROKEN: Option<&str> = Some("lineage_broken");
    let rollouts = Codex.discover(home)?;
    let mut next = Some(base.clone());
    for _ in 0..GENERATIONS {
        let Some(base) = next else { return Ok(None) };
        let Some(ancestor) = rollout_of(&rollouts, &base.thread_id) else {
            return Ok(Some("lineage_missing"));
        };
        // The offset counts unpacked bytes.
        let is_packed = ancestor.location.ends_with(".zst");
        let Ok(rollout) = rollout::open(Path::new(&ancestor.location)) else { return Ok(BROKEN) };
        if rollout.fault.is_some() || (!is_packed && ancestor.stamp.size < base.end) {
            return Ok(BROKEN);
        }
        next = rollout.meta.and_then(|meta| meta.base);
    }
    Ok(BROKEN)
}

fn unknown(error: &Unreadable) -> Verdict {
    Verdict::new(
        Status::Unknown,
        match error {
            Unreadable::Missing => "home_missing",
            Unreadable::Denied(_) => "home_unreadable",
        },
    )
}
