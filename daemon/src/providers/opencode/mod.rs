//! OpenCode and Kilo, one family: all sessions of a home are rows of one database.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::path::{Path, PathBuf};

use sessd_proto::provider::Capabilities;
use sessd_proto::{Environment, Event, LaunchPlan, Status};

use super::home::home;
use super::{
    Accepts, Bound, Found, Home, Launch, LaunchFile, Listed, LiveSession, Provider, Retention,
    Start, TurnSpec, Unreadable, Verdict, sqlite,
};

mod flags;
mod other_servers;
mod rows;
mod started;
mod stream;

/// A member of the family.
pub struct Brand {
    /// Its id, and the name of its program, its folder and its database.
    name: &'static str,
    /// How the names of its variables begin.
    prefix: &'static str,
    environment: &'static [&'static str],
}

/// The variables of one brand, with those that the whole family reads.
macro_rules! environment {
    ($($own:literal),* $(,)?) => {
        super::environment::environment![
            $($own,)*
            "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME",
            "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY",
            "GOOGLE_GENERATIVE_AI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_PROJECT", "VERTEX_LOCATION", "GROQ_API_KEY", "DEEPSEEK_API_KEY",
            "MISTRAL_API_KEY", "XAI_API_KEY", "AZURE_API_KEY", "AZURE_RESOURCE_NAME",
            "AWS_PROFILE", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "GITHUB_TOKEN", "GITLAB_TOKEN",
            "NODE_EXTRA_CA_CERTS",
        ]
    };
}

/// OpenCode.
pub static OPENCODE: Brand = Brand {
    name: "opencode",
    prefix: "OPENCODE",
    environment: environment![
        "OPENCODE_DB",
        "OPENCODE_API_KEY",
        "OPENCODE_AUTH_CONTENT",
        "OPENCODE_CONFIG",
        "OPENCODE_CONFIG_DIR",
        "OPENCODE_CONFIG_CONTENT",
        "OPENCODE_PERMISSION",
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_MODELS_PATH",
        "OPENCODE_MODELS_URL",
    ],
};

/// Kilo.
pub static KILO: Brand = Brand {
    name: "kilo",
    prefix: "KILO",
    environment: environment![
        "KILO_DB",
        "KILO_API_KEY",
        "KILO_ORG_ID",
        "KILO_AUTH_CONTENT",
        "KILO_CONFIG",
        "KILO_CONFIG_DIR",
        "KILO_CONFIG_CONTENT",
        "KILO_PERMISSION",
        "KILO_DISABLE_AUTOUPDATE",
        "KILO_DISABLE_MODELS_FETCH",
        "KILO_MODELS_PATH",
        "KILO_MODELS_URL",
        "KILO_TELEMETRY_LEVEL",
    ],
};

impl Provider for Brand {
    fn id(&self) -> &'static str {
        self.name
    }

    fn program(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            discover: true,
            check: true,
            resume: true,
            send: true,
            fork: true,
            ..Capabilities::default()
        }
    }

    fn environment(&self) -> &'static [&'static str] {
        self.environment
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let default = format!(".local/share/{}", self.name);
        let home = home(env, "XDG_DATA_HOME", self.name, &default);
        home.into_iter().map(|home| self.with_database(home, env)).collect()
    }

    fn watched(&self, home: &Home) -> Vec<PathBuf> {
        vec![home.path.clone()]
    }

    fn discover(&self, home: &Home) -> Result<Vec<Listed>, Unreadable> {
        let file = self.file(home);
        let rows = sqlite::read(&file, rows::all)?;
        let listed = rows.into_iter().filter(|row| row.has_messages);
        Ok(listed
            .map(|row| Listed { location: location(&file, &row.id), stamp: row.stamp() })
            .collect())
    }

    fn read(&self, home: &Home, location: &str) -> Option<Found> {
        self.read_all(home, &[location]).pop().flatten()
    }

    /// The database is opened once for all of them.
    fn read_all(&self, home: &Home, locations: &[&str]) -> Vec<Option<Found>> {
        let ids = locations.iter().map(|location| id_in(location)).collect::<Vec<_>>();
        let found = sqlite::read(&self.file(home), |connection| rows::found(connection, &ids));
        found.unwrap_or_else(|_| vec![None; locations.len()])
    }

    fn check(&self, home: &Home, bound: &Bound) -> Verdict {
        let row = sqlite::read(&self.file(home), |connection| {
            rows::by_id(connection, &bound.provider_session_id)
        });
        match row {
            Ok(Some(row)) => row.judge(),
            Ok(None) => Verdict::new(Status::Expired, "transcript_missing"),
            Err(Unreadable::Missing) => Verdict::new(Status::Unknown, "home_missing"),
            Err(Unreadable::Denied(_)) => Verdict::new(Status::Unknown, "home_unreadable"),
        }
    }

    /// Who has the database open can be seen, but not on which session.
    fn live(&self, _home: &Home) -> Option<Vec<LiveSession>> {
        None
    }

    fn begun(&self, home: &Home, starts: &[Start]) -> Vec<LiveSession> {
        if starts.is_empty() {
            return Vec::new();
        }
        let file = self.file(home);
        let rows = sqlite::read(&file, rows::all).unwrap_or_default();
        started::by(starts, &rows, &file)
    }

    fn retention(&self, _home: &Home) -> Option<Retention> {
        None
    }

    /// In the launch directory only: elsewhere the program never comes to an end.
    fn plan_resume(
        &self,
        home: &Home,
        bound: &Bound,
        _cwd: Option<&str>,
        launch: &Launch,
    ) -> LaunchPlan {
        self.plan(home, &bound.launch_dir, vec![session(bound)], launch)
    }

    fn plan_new(&self, home: &Home, _id: Option<&str>, cwd: &str, launch: &Launch) -> LaunchPlan {
        self.plan(home, cwd, Vec::new(), launch)
    }

    fn plan_fork(
        &self,
        home: &Home,
        bound: &Bound,
        _id: Option<&str>,
        _cwd: &str,
        launch: &Launch,
    ) -> LaunchPlan {
        let args = vec![session(bound), "--fork".to_owned()];
        self.plan(home, &bound.launch_dir, args, launch)
    }

    fn plan_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        // Only its log says why it tries again.
        let words = ["run", "--format=json", "--print-logs", "--log-level=ERROR"];
        let mut args = words.map(str::to_owned).to_vec();
        args.push(format!("--dir={}", spec.cwd));
        args.push(match &spec.resume {
            Some(bound) => session(bound),
            // The beginning of the prompt; without this the model is asked for a title.
            None => "--title=".to_owned(),
        });
        Some(self.plan(home, &spec.cwd, args, &spec.launch))
    }

    fn plan_fork_turn(&self, home: &Home, spec: &TurnSpec) -> Option<LaunchPlan> {
        let mut plan = self.plan_turn(home, spec)?;
        plan.args.push("--fork".to_owned());
        Some(plan)
    }

    fn accepts(&self) -> Accepts {
        flags::ACCEPTS
    }

    fn launch_files(&self, _home: &Home, launch: &Launch) -> Vec<LaunchFile> {
        flags::files(launch)
    }

    fn without_other_servers(&self, _home: &Home, launch: &Launch, plan: &mut LaunchPlan) {
        other_servers::switch_off(self, launch, plan);
    }

    fn decode(&self, line: &str) -> Vec<Event> {
        stream::decode(line)
    }

    fn explain(&self, stderr: &str) -> Option<Event> {
        stream::explain(stderr)
    }
}

impl Brand {
    /// The variable that names another database.
    fn variable(&self) -> String {
        format!("{}_DB", self.prefix)
    }

    /// The home as the variable for another database has it, which may lie anywhere.
    fn with_database(&self, mut home: Home, env: &Environment) -> Home {
        let chosen = env.get(&self.variable()).map(|file| home.path.join(file));
        if let Some(folder) = chosen.as_deref().and_then(Path::parent) {
            home.path = folder.to_owned();
        }
        let chosen = chosen.map(|file| file.to_string_lossy().into_owned());
        home.env.insert(self.variable(), chosen);
        home
    }

    /// The database with the sessions of a home.
    fn file(&self, home: &Home) -> PathBuf {
        match home.env.get(&self.variable()) {
            Some(Some(file)) => PathBuf::from(file),
            _ => home.path.join(format!("{}.db", self.name)),
        }
    }

    fn plan(&self, home: &Home, cwd: &str, mut args: Vec<String>, launch: &Launch) -> LaunchPlan {
        args.extend(flags::arguments(launch));
        let program = self.program().to_owned();
        let mut plan = LaunchPlan { program, args, cwd: cwd.to_owned(), env: home.env.clone() };
        flags::environment(launch, self.prefix, &mut plan);
        plan
    }
}

fn session(bound: &Bound) -> String {
    format!("--session={}", bound.provider_session_id)
}

/// Where a session is: its row.
fn location(file: &Path, id: &str) -> String {
    format!("{}#{id}", file.display())
}

fn id_in(location: &str) -> &str {
    location.rsplit_once('#').map_or("", |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_where_its_database_is() {
        let home = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let home = OPENCODE.homes(&Environment(pairs.collect())).remove(0);
            (OPENCODE.file(&home), home)
        };
        let (file, moved) = home(&[("HOME", "/h"), ("XDG_DATA_HOME", "/data")]);
        assert_eq!(file, Path::new("/data/opencode/opencode.db"));
        assert_eq!(moved.env["XDG_DATA_HOME"].as_deref(), Some("/data"));
        let (file, own) = home(&[("HOME", "/h"), ("OPENCODE_DB", "/srv/own.db")]);
        assert_eq!((&*file, &*own.path), (Path::new("/srv/own.db"), Path::new("/srv")));
        assert_eq!(own.env["OPENCODE_DB"].as_deref(), Some("/srv/own.db"));
        let (file, _) = home(&[("HOME", "/h"), ("OPENCODE_DB", "other.db")]);
        assert_eq!(file, Path::new("/h/.local/share/opencode/other.db"));
    }
}
