//! OpenCode and Kilo, one family: all sessions of a home are rows of one database.
//! Knows neither our registry nor the socket; writes nothing, starts nothing.

use std::path::{Path, PathBuf};

use sessd_proto::Environment;

use super::home::home;
use super::{Discovery, Forks, Home, Launcher, Provider, Turns, Version};

mod discovery;
mod flags;
mod launch;
mod messages;
mod other_servers;
mod rows;
mod started;
mod stream;
mod tables;
mod turns;

/// A member of the family.
pub struct Brand {
    /// Its id, and the name of its program, its folder and its database.
    name: &'static str,
    /// The prefix of its variables' names.
    prefix: &'static str,
    environment: &'static [&'static str],
    newest_tested: Version,
}

/// Returns the variables of one brand, with those that the whole family reads.
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
    newest_tested: Version(1, 18, 33),
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
    newest_tested: Version(7, 7, 7),
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

    fn environment(&self) -> &'static [&'static str] {
        self.environment
    }

    fn homes(&self, env: &Environment) -> Vec<Home> {
        let default = format!(".local/share/{}", self.name);
        let home = home(env, "XDG_DATA_HOME", self.name, &default);
        home.into_iter().map(|home| self.with_database(home, env)).collect()
    }

    fn discovery(&self) -> &dyn Discovery {
        self
    }

    fn launcher(&self) -> &dyn Launcher {
        self
    }

    fn turns(&self) -> Option<&dyn Turns> {
        Some(self)
    }

    fn forks(&self) -> Option<&dyn Forks> {
        Some(self)
    }

    fn newest_tested(&self) -> Option<Version> {
        Some(self.newest_tested)
    }
}

impl Brand {
    /// Returns the name of the variable that selects another database.
    fn variable(&self) -> String {
        format!("{}_DB", self.prefix)
    }

    /// Returns the home with the database that the environment selects, which may be anywhere.
    fn with_database(&self, mut home: Home, env: &Environment) -> Home {
        let chosen = env.get(&self.variable()).map(|file| home.path.join(file));
        if let Some(folder) = chosen.as_deref().and_then(Path::parent) {
            home.path = folder.to_owned();
        }
        let chosen = chosen.map(|file| file.to_string_lossy().into_owned());
        home.env.insert(self.variable(), chosen);
        home
    }

    /// Returns the path of the database with the sessions of a home.
    fn database(&self, home: &Home) -> PathBuf {
        match home.env.get(&self.variable()) {
            Some(Some(file)) => PathBuf::from(file),
            _ => home.path.join(format!("{}.db", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_folder_of_its_database() {
        let home = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let home = OPENCODE.homes(&Environment(pairs.collect())).remove(0);
            (OPENCODE.database(&home), home)
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
