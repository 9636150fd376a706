//! Agents: the launch profiles of the configuration, and the launch options of a session. A session
//! is stored with names (model, servers, permission); their meaning is looked up in the
//! configuration at each start. It must not know how a provider writes an option down.

use sessd_proto::agent::{AgentInfo, AgentsResponse};
use sessd_proto::{Environment, Fault, FaultCode};

use super::Launches;
use crate::config::{self, Agent, Flags};
use crate::launch_files;
use crate::providers::{self, Launch, Provider};
use crate::store::sessions::{self, Stored};

impl Launches {
    /// Returns every agent, by name.
    #[must_use]
    pub(crate) fn agents(&self) -> AgentsResponse {
        let file = self.config_file.to_string_lossy();
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

    /// Returns the agent of this name and its provider.
    ///
    /// # Errors
    /// Fails with `not_found` and the nearest name.
    pub(crate) fn agent(&self, name: &str) -> Result<(&'static dyn Provider, &Agent), Fault> {
        let agent = self.config.agents.get(name);
        let found = agent.and_then(|agent| Some((providers::by_id(&agent.provider)?, agent)));
        found.ok_or_else(|| {
            let what = format!("no agent is named `{name}`");
            let nearest = config::nearest(name, self.config.agents.keys());
            let hint = nearest.map_or_else(String::new, |it| format!("did you mean `{it}`? "));
            Fault::new(FaultCode::NotFound, what).hint(format!("{hint}all: `sessctl agents`"))
        })
    }

    /// Removes launch files of sessions that no longer exist, which a killed daemon left behind.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn forget_stray_files(&self) -> Result<(), crate::store::Error> {
        for id in launch_files::session_ids(&self.state) {
            let asked = id.clone();
            if self.store.read(move |c| sessions::by_id(c, &asked)).await?.is_none() {
                launch_files::forget(&self.state, &id).await;
            }
        }
        Ok(())
    }

    /// Returns the launch options of a stored session for its next start.
    ///
    /// # Errors
    /// Fails with `config_invalid` if a named MCP server is not configured, or with `unsupported`
    /// if the provider refuses this launch.
    pub(crate) async fn launch(&self, row: &Stored, caller: &Environment) -> Result<Launch, Fault> {
        let session = &row.session;
        let provider = providers::by_id(&session.provider);
        let provider = provider.ok_or_else(|| Fault::internal("a session without a provider"))?;
        let flags = serde_json::from_str(&row.launch).map_err(Fault::internal)?;
        self.launch_of(provider, &session.agent, flags, &session.id, caller).await
    }

    /// Returns the variables that the agent of a session sets.
    pub(crate) fn agent_environment(&self, row: &Stored) -> Environment {
        self.environment_of(&row.session.agent, &row.session.provider)
    }

    fn environment_of(&self, agent: &str, provider: &str) -> Environment {
        let agent = self.config.agents.get(agent).filter(|it| it.provider == provider);
        agent.map(|agent| agent.env.clone()).unwrap_or_default()
    }

    /// Like [`Self::launch`], for a session that may not be stored yet.
    ///
    /// # Errors
    /// Fails with `config_invalid` if a named MCP server is not configured, or with `unsupported`
    /// if the provider refuses this launch.
    pub(crate) async fn launch_of(
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
        // The stored flags stay in force even if the agent was removed from the configuration.
        let env = self.environment_of(agent, provider.id());
        let environment = self.environment(caller, &env);
        let launch = Launch {
            model: flags.model,
            permission: flags.permission,
            system_prompt: flags.system_prompt,
            profile: flags.profile,
            args: flags.args,
            mcp_servers,
            version: self.homes.version(provider, environment.get("PATH")).await?,
            environment,
            env,
            files: self.state.join(launch_files::FOLDER).join(session_id),
        };
        match provider.launcher().refuses(&launch, &launch.environment) {
            Some(why) => Err(Fault::new(FaultCode::Unsupported, why).hint("all: `sessctl agents`")),
            None => Ok(launch),
        }
    }
}

fn no_server(name: &str) -> Fault {
    let what = format!("the session needs the MCP server `{name}`, which is not configured");
    Fault::new(FaultCode::ConfigInvalid, what).hint(format!(
        "define [mcp_servers.{name}] in the configuration, then `sessctl daemon restart`"
    ))
}
