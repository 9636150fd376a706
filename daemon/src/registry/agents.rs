//! Agents: what the configuration lets people start, and what a session asks its provider for at
//! every start: what was stored with it, and what is behind the names in that now.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sessd_proto::agent::{AgentInfo, AgentsResponse};
use sessd_proto::{Environment, Fault, FaultCode};

use super::Registry;
use crate::config::{self, Agent, Flags};
use crate::providers::{self, Home, Launch, LaunchFile, Provider};
use crate::store::sessions::{self, Stored};

/// Where files for starts are, below our own state.
pub(super) const FOLDER: &str = "launch";

impl Registry {
    /// Every agent, by name.
    #[must_use]
    pub fn agents(&self) -> AgentsResponse {
        let file = self.paths.config.to_string_lossy();
        let info = |(name, agent): (&String, &Agent)| {
            let Agent { provider, directory, env, flags, is_written } = agent.clone();
            AgentInfo {
                name: name.clone(),
                provider,
                model: flags.model,
                permission: flags.permission.map(|permission| permission.as_str().to_owned()),
                system_prompt: flags.system_prompt,
                profile: flags.profile,
                args: flags.args,
                env: env.0.into_keys().collect(),
                directory: directory.map(|dir| dir.to_string_lossy().into_owned()),
                mcp_servers: flags.mcp_servers,
                defined_in: is_written.then(|| file.clone().into_owned()),
            }
        };
        AgentsResponse { agents: self.config.agents.iter().map(info).collect() }
    }

    /// The agent of this name, and whom it starts.
    pub(super) fn agent(&self, name: &str) -> Result<(&'static dyn Provider, &Agent), Fault> {
        let agent = self.config.agents.get(name);
        let found = agent.and_then(|agent| Some((providers::by_id(&agent.provider)?, agent)));
        found.ok_or_else(|| {
            let what = format!("there is no agent `{name}`");
            let nearest = config::nearest(name, self.config.agents.keys());
            let hint = nearest.map_or_else(String::new, |it| format!("did you mean `{it}`? "));
            Fault::new(FaultCode::NotFound, what).hint(format!("{hint}all: `sessctl agents`"))
        })
    }

    /// Removes files for starts that belong to no session: a daemon that was killed could not.
    pub(super) async fn forget_stray_files(&self) -> Result<(), crate::store::Error> {
        let entries = fs::read_dir(self.paths.state.join(FOLDER)).into_iter().flatten().flatten();
        let id = |name: OsString| Some(name.to_str()?.split_once('.')?.0.to_owned());
        let ids: BTreeSet<String> = entries.filter_map(|entry| id(entry.file_name())).collect();
        for id in ids {
            let asked = id.clone();
            if self.store.read(move |c| sessions::by_id(c, &asked)).await?.is_none() {
                forget_files(&self.paths.state, &id).await;
            }
        }
        Ok(())
    }

    /// What a session asks its provider for now.
    pub(super) fn launch(&self, row: &Stored, caller: &Environment) -> Result<Launch, Fault> {
        let session = &row.session;
        let provider = providers::by_id(&session.provider);
        let provider = provider.ok_or_else(|| Fault::internal("a session without a provider"))?;
        let flags = serde_json::from_str(&row.launch).map_err(Fault::internal)?;
        self.launch_of(provider, &session.agent, flags, &session.id, caller)
    }

    /// The same for a session that may not be there yet.
    pub(super) fn launch_of(
        &self,
        provider: &'static dyn Provider,
        agent: &str,
        flags: Flags,
        session_id: &str,
        caller: &Environment,
    ) -> Result<Launch, Fault> {
        let server = |name: String| match self.config.mcp_servers.get(&name) {
            Some(server) => Ok((name, server.clone())),
            None => Err(no_server(&name)),
        };
        let mcp_servers = flags.mcp_servers.into_iter().map(server).collect::<Result<_, _>>()?;
        // An agent that is not in the configuration any more leaves what it asked for.
        let agent = self.config.agents.get(agent).filter(|it| it.provider == provider.id());
        let env = agent.map(|agent| agent.env.clone()).unwrap_or_default();
        let launch = Launch {
            model: flags.model,
            permission: flags.permission,
            system_prompt: flags.system_prompt,
            profile: flags.profile,
            args: flags.args,
            mcp_servers,
            environment: self.surrounding(caller, &env),
            env,
            files: self.paths.state.join(FOLDER).join(session_id),
        };
        match provider.launcher().refuses(&launch, &launch.environment) {
            Some(why) => Err(Fault::new(FaultCode::Unsupported, why).hint("all: `sessctl agents`")),
            None => Ok(launch),
        }
    }

    /// The variables that a start sees: ours, over them the caller's, over them the agent's.
    pub(super) fn surrounding(&self, caller: &Environment, agent: &Environment) -> Environment {
        let mut env = self.env.base.clone();
        env.0.extend(caller.0.clone());
        env.0.extend(agent.0.clone());
        env
    }
}

/// Writes the files that a plan names, readable by us alone.
pub(super) async fn write_files(
    provider: &'static dyn Provider,
    home: &Home,
    launch: &Launch,
) -> Result<(), Fault> {
    let (home, launch) = (home.clone(), launch.clone());
    let write = move || {
        let files = provider.launcher().files(&home, &launch);
        files.iter().try_for_each(|file| match file {
            LaunchFile::Text(name, text) => replace(&launch.file(name), text),
            LaunchFile::Link(name, target) => link(&launch.file(name), target),
            LaunchFile::Folder(name, target) => {
                private_folder(target)?;
                link(&launch.file(name), target)
            }
        })
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(Fault::internal)?;
    written.map_err(|error| {
        Fault::new(FaultCode::Internal, format!("cannot write what an agent needs: {error}"))
    })
}

/// Removes what was written for a session's starts; what is only linked there stays.
pub(super) async fn forget_files(state: &Path, session_id: &str) {
    let (folder, prefix) = (state.join(FOLDER), format!("{session_id}."));
    let forget = move || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    };
    match tokio::task::spawn_blocking(forget).await {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove the files of a session: {error}");
        }
        _ => {}
    }
}

/// A provider that starts at this moment reads the old text or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let staged = staged(path)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staged)?;
    file.write_all(text.as_bytes())?;
    fs::rename(staged, path)
}

/// A provider may have put a file of its own in the place of the link.
fn link(path: &Path, target: &Path) -> std::io::Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let staged = staged(path)?;
    symlink(target, &staged)?;
    fs::rename(staged, path)
}

/// A name beside this one, in a folder that is there.
fn staged(path: &Path) -> std::io::Result<PathBuf> {
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    private_folder(&folder)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}", uuid::Uuid::new_v4()));
    Ok(staged.into())
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn no_server(name: &str) -> Fault {
    let what = format!("the session needs the MCP server `{name}`, which is not configured");
    Fault::new(FaultCode::ConfigInvalid, what)
        .hint(format!("write [mcp_servers.{name}] again, then `sessctl daemon restart`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_of_a_session_are_forgotten_but_not_what_they_link_to() {
        let state = tempfile::tempdir().unwrap();
        let store = state.path().join("home/tmp");
        private_folder(&store).unwrap();
        fs::write(store.join("chat"), "x").unwrap();
        let launch =
            |id: &str| Launch { files: state.path().join(FOLDER).join(id), ..Launch::default() };
        let (gone, kept) = (launch("1"), launch("12"));
        for session in [&gone, &kept] {
            replace(&session.file("mcp.json"), "{}").unwrap();
            link(&session.file("home/store/tmp"), &store).unwrap();
        }
        forget_files(state.path(), "1").await;
        assert!(!gone.file("mcp.json").exists() && !gone.file("home").exists());
        assert!(kept.file("mcp.json").exists() && kept.file("home/store/tmp/chat").exists());
        assert_eq!(fs::read_to_string(store.join("chat")).unwrap(), "x");
    }

    #[test]
    fn a_link_takes_the_place_of_what_a_provider_has_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let [path, target] = ["path", "target"].map(|name| folder.path().join(name));
        fs::write(&target, "the user's").unwrap();
        fs::write(&path, "the provider's").unwrap();
        link(&path, &target).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "the user's");
    }
}
