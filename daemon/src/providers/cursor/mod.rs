//! Cursor CLI: a folder per chat, with a SQLite store of its conversation.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.
//!
//! A chat that is gone is begun anew in silence when it is resumed, under the same id. So what
//! tells chats with one id apart, their scope, is the time at which each was begun.

use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, Kind, LaunchPlan, Status, Timestamp};

use super::environment::environment;
use super::listing;
use super::{Accepts, Bound, Found, Home, Launch, Listed, LiveSession, Permission, Provider};
use super::{Retention, TurnSpec, Unreadable, Verdict, record};

mod live;
mod store;
mod stream;

use store::{Chat, Described};

/// Cursor CLI.
pub struct Cursor;

/// Selects the home, whatever else is set.
const HOME: &str = "CURSOR_CONFIG_DIR";

/// The name of every chat's store.
const STORE: &str = "store.db";

impl Provider for Cursor {
    fn id(&self) -> &'static str {
        "cursor"
    }

    fn program(&self) -> &'static str {
        "cursor-agent"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            resume_anywhere: true,
            choose_id: true,
            foreign_use: true,
            ..Capabilities::default()
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        environment![
            "CURSOR_CONFIG_DIR",
            "XDG_CONFIG_HOME",
            "CURSOR_DATA_DIR",
            "CURSOR_API_KEY",
            "CURSOR_AUTH_TOKEN",
            "CURSOR_API_ENDPOINT",
            "NODE_EXTRA_CA_CERTS",
        ]
    }

    /// The one that the CLI would choose, then all others in which an earlier shell or version
    /// may have left chats.
    fn homes(&self, env: &Environment) -> Vec<Home> {
        let in_config = env.get("XDG_CONFIG_HOME").map(|base| Path::new(base).join("cursor"));
        let in_home = |name| env.get("HOME").map(|base| Path::new(base).join(name));
        let chosen = env.get(HOME).map(PathBuf::from);
        let places = [chosen, in_config, in_home(".cursor"), in_home(".config/cursor")];
        let mut homes: Vec<Home> = Vec::new();
        for path in places.into_iter().flatten() {
            let path: PathBuf = path.components().collect();
            let env = [(HOME.to_owned(), path.to_str().map(str::to_owned))].into();
            let home = Home { path, env };
            if home.path.is_absolute() && !homes.contains(&home) {
                homes.push(home);
            }
        }
        homes
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        let chats = chats(home);
        let workspaces = listing::folders(&chats);
        let folders: Vec<_> = workspaces.iter().flat_map(|it| listing::folders(it)).collect();
        [chats].into_iter().chain(workspaces).chain(folders).collect()
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let mut found = Vec::new();
        listing::walk(listing::root(&chats(home))?, 2, |name| name == STORE, &mut found)?;
        Ok(found)
    }

    fn read(&self, _home: &Home, location: &str) -> Option<Found> {
        let path = Path::new(location);
        let chat = Chat::read(path).ok()?;
        let described = Described::of(path);
        if !chat.has_prompt && !described.has_conversation {
            return None;
        }
        let modified = super::Stamp::of(&path.metadata().ok()?).mtime_ns;
        let created_at = chat.created_at.or(described.created_at);
        let launch_dir = described.cwd.clone().or(chat.workspace.clone()).unwrap_or_default();
        let title = described.title.as_deref().or(chat.name()).and_then(record::title);
        Some(Found {
            provider_session_id: id_of(path)?,
            scope: chat.scope(),
            kind: if described.is_subagent { Kind::Subagent } else { Kind::Interactive },
            cwd: (!launch_dir.is_empty()).then(|| launch_dir.clone()),
            launch_dir,
            title: title.or_else(|| record::title(chat.prompt.as_deref()?)),
            model: chat.model.clone(),
            git_branch: None,
            created_at: created_at.map_or(Timestamp::from_ns(modified), Timestamp),
            last_activity: described.updated_at.map_or(Timestamp::from_ns(modified), Timestamp),
            parent: None,
            verdict: judge(&chat, &described),
        })
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let path = match locate(home, bound) {
            Ok(Some(path)) => path,
            Ok(None) => return Verdict::new(Status::Expired, "transcript_missing"),
            Err(Unreadable::Missing) => return Verdict::new(Status::Unknown, "home_missing"),
            Err(Unreadable::Denied(_)) => return Verdict::new(Status::Unknown, "home_unreadable"),
        };
        match Chat::read(&path) {
            Ok(chat) if is_another(&chat, bound) => Verdict::new(Status::Invalid, "begun_anew"),
            Ok(chat) => judge(&chat, &Described::of(&path)),
            Err(_) => Verdict::new(Status::Unknown, "transcript_unreadable"),
        }
    }

    fn began_anew(&self, home: &Home, bound: &Bound) -> bool {
        match locate(home, bound) {
            Ok(Some(path)) => Chat::read(&path).is_ok_and(|chat| is_another(&chat, bound)),
            _ => false,
        }
    }

    fn live(&self, home: &Home) -> Option<Vec<LiveSession>> {
        live::read(&self.discover(home).ok()?)
    }

    /// Chats are said to vanish, but by no rule that is known.
    fn retention(&self, _home: &Home) -> Option<Retention> {
        None
    }

    fn accepts(&self) -> Accepts {
        Accepts {
            model: true,
            permissions: &[Permission::Ask, Permission::All],
            ..Accepts::default()
        }
    }

    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        plan(home, cwd.unwrap_or(&bound.launch_dir), vec![resume(bound)], launch)
    }

    fn plan_new(&self, home: &Home, id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        plan(home, cwd, id.map(session_id).into_iter().collect(), launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let session = match (&spec.resume, &spec.new_id) {
            (Some(bound), _) => resume(bound),
            (None, id) => session_id(id.as_deref()?),
        };
        let args = vec!["--print".to_owned(), "--output-format=stream-json".to_owned(), session];
        Some(plan(home, &spec.cwd, args, &spec.launch))
    }

    fn reads_prompt(&self) -> bool {
        false
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}

fn plan(home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
    args.extend(launch.model.as_ref().map(|model| format!("--model={model}")));
    args.extend((launch.permission == Some(Permission::All)).then(|| "--force".to_owned()));
    args.extend(launch.args.clone());
    let program = Cursor.program().to_owned();
    LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() }
}

fn resume(bound: &Bound) -> String {
    format!("--resume={}", bound.provider_session_id)
}

fn session_id(id: &str) -> String {
    format!("--new-session-id={id}")
}

fn chats(home: &Home) -> PathBuf {
    home.path.join("chats")
}

/// The chat's folder has its name.
fn id_of(store: &Path) -> Option<String> {
    Some(store.parent()?.file_name()?.to_str()?.to_owned())
}

/// The store where it was last seen, else that of the same id in any workspace, if need be that
/// of another chat.
fn locate(home: &Home, bound: &Bound) -> Result<Option<PathBuf>, Unreadable> {
    let known = PathBuf::from(&bound.location);
    if known.is_file() {
        return Ok(Some(known));
    }
    let listed = Cursor.discover(home)?;
    let stores = listed.into_iter().map(|entry| PathBuf::from(entry.location));
    let same = stores.filter(|path| id_of(path).as_ref() == Some(&bound.provider_session_id));
    Ok(same.max_by_key(|path| Chat::read(path).is_ok_and(|chat| !is_another(&chat, bound))))
}

/// A session that has just begun has no scope yet, and a damaged store none any more.
fn is_another(chat: &Chat, bound: &Bound) -> bool {
    !bound.scope.is_empty() && chat.created_at.is_some() && chat.scope() != bound.scope
}

fn judge(chat: &Chat, described: &Described) -> Verdict {
    if described.is_subagent {
        return Verdict::new(Status::Invalid, "subagent");
    }
    // Leaves that cannot be read may be encrypted, which only the description tells.
    match chat.has_root && (chat.has_prompt || described.has_conversation) {
        true => Verdict::ACTIVE,
        false => Verdict::new(Status::Invalid, "empty_transcript"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_looked_for_wherever_they_may_be() {
        let homes = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let homes = Cursor.homes(&Environment(pairs.collect()));
            let path = |home: Home| home.path.to_str().unwrap().to_owned();
            homes.into_iter().map(path).collect::<Vec<_>>()
        };
        let everywhere = ["/h/.cursor", "/h/.config/cursor"];
        assert_eq!(homes(&[("HOME", "/h")]), everywhere);
        let set = [("HOME", "/h"), (HOME, "/c/"), ("XDG_CONFIG_HOME", "/x")];
        assert_eq!(homes(&set), ["/c", "/x/cursor", "/h/.cursor", "/h/.config/cursor"]);
        assert_eq!(homes(&[("HOME", "/h"), (HOME, "relative")]), everywhere);
        assert_eq!(homes(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/h/.config")]).len(), 2);
    }
}
