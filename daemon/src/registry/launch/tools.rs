//! Lists the MCP servers and tools that an agent or a session gets. Starts the provider where it
//! reports them at its start, else the servers themselves. No model is called. It must not know the
//! protocol of the servers: that is `mcp_client`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use sessd_proto::agent::{ServerInfo, ToolsRequest, ToolsResponse};
use sessd_proto::{Environment, EventType, Fault, FaultCode, LaunchPlan};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Launches;
use super::create::first_home;
use super::secrets;
use crate::launch_files;
use crate::mcp_client::{self, Refusal};
use crate::providers::{Launch, McpServer, Provider};
use crate::redact::Secrets;
use crate::registry::homes::KnownHome;
use crate::runner::{self, Limits, Process};

/// Limits for a provider that starts with its servers.
const LIMITS: Limits =
    Limits { deadline: Duration::from_secs(45), output_bytes_max: 16 * 1024 * 1024 };

/// The longest quotation of a server's error, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// The launch of an agent or a session, to be asked for its tools.
struct Start {
    agent: String,
    known: KnownHome,
    cwd: String,
    launch: Launch,
    /// The id whose launch files are removed afterwards.
    temporary_id: Option<String>,
}

impl Launches {
    /// Returns the tools that an agent or a session has when it is started.
    ///
    /// # Errors
    /// Fails with `not_found` if there is neither, or with `provider_failed` if its provider does
    /// not start within 45 s.
    pub(crate) async fn tools(
        self: &Arc<Self>,
        request: ToolsRequest,
    ) -> Result<ToolsResponse, Fault> {
        let launches = Arc::clone(self);
        // A task of its own: no process may be left behind if the caller goes away.
        let task = tokio::spawn(async move {
            let start = launches.find_start(&request).await?;
            let temporary_id = start.temporary_id.clone();
            let response = launches.start_for_tools(start, &request.environment).await;
            // The files may hold secrets of servers.
            if let Some(id) = temporary_id {
                launch_files::forget(&launches.state, &id).await;
            }
            response
        });
        task.await.map_err(Fault::internal)?
    }

    /// Returns the launch of the agent or session that the request names.
    async fn find_start(self: &Arc<Self>, request: &ToolsRequest) -> Result<Start, Fault> {
        let ToolsRequest { name, cwd, environment } = request;
        if let Ok((provider, agent)) = self.agent(name) {
            let flags = agent.flags.clone();
            // A fresh id: another call for this agent must keep its own files.
            let id = Uuid::new_v4().to_string();
            let launch = self.launch_of(provider, name, flags, &id, environment).await?;
            let home = first_home(provider, &self.environment(environment, &agent.env))?;
            let directory = agent.directory.as_ref().map(|dir| dir.to_string_lossy().into_owned());
            let cwd = directory.unwrap_or_else(|| cwd.clone());
            let known = KnownHome { id: 0, provider, home };
            return Ok(Start { agent: name.clone(), known, cwd, launch, temporary_id: Some(id) });
        }
        let row = self.sessions.resolve(name).await.map_err(|fault| match fault.code {
            FaultCode::NotFound => fault.hint("all agents: `sessctl agents`"),
            _ => fault,
        })?;
        let known = self.homes.of_session(&row).await?;
        let launch = self.launch(&row, environment).await?;
        let cwd = row.session.launch_dir;
        Ok(Start { agent: row.session.agent, known, cwd, launch, temporary_id: None })
    }

    /// Starts the provider if it reports its tools at its start, else the servers.
    async fn start_for_tools(
        &self,
        start: Start,
        caller: &Environment,
    ) -> Result<ToolsResponse, Fault> {
        let Start { agent, known, cwd, launch, .. } = start;
        let base = self.environment(caller, &Environment::default());
        let response = ToolsResponse {
            agent,
            provider: known.provider.id().to_owned(),
            ..ToolsResponse::default()
        };
        let (cwd_of, launch_of) = (cwd.clone(), launch.clone());
        let plan = move |known: &KnownHome| {
            known.provider.launcher().plan_tools(&known.home, &cwd_of, &launch_of)
        };
        let Some((plan, input)) = self.ask_plan(&known, plan).await? else {
            let servers = launch.mcp_servers.iter().map(|(name, server)| {
                let env = self.environment(caller, &launch.env);
                ask_server(name, server, &cwd, env)
            });
            let servers = join_all(servers).await;
            return Ok(ToolsResponse { told_by: "servers".to_owned(), servers, ..response });
        };
        let plan = self.complete(&known, &launch, plan).await?;
        let hidden = secrets::of_launch(&plan, &base, &launch, &self.config.environment);
        let report = start_and_end(known.provider, &plan, &base, input, &hidden).await?;
        let (tools, servers) = parse_report(&report);
        Ok(ToolsResponse { told_by: "provider".to_owned(), tools, servers, ..response })
    }
}

/// Starts a provider, and ends it as soon as it has reported its tools; returns the report.
///
/// # Errors
/// Fails with `provider_failed` if it cannot be started or ends without a report.
async fn start_and_end(
    provider: &'static dyn Provider,
    plan: &LaunchPlan,
    base: &Environment,
    input: &str,
    secrets: &Secrets,
) -> Result<Value, Fault> {
    let failed = |what: String| {
        Fault::new(FaultCode::ProviderFailed, format!("{}: {what}", provider.id()))
            .hint("what the daemon sees: `sessctl doctor`")
    };
    let child = Process::start(plan, base)
        .map_err(|error| failed(format!("cannot start {}: {error}", plan.program)))?;
    let pid = child.pid();
    let decode =
        |line: &String| provider.turns().map(|turns| turns.decode(line)).unwrap_or_default();
    let (lines, mut incoming) = mpsc::channel::<Vec<String>>(4);
    let listen = async {
        let mut started = None;
        while let Some(lines) = incoming.recv().await {
            let mut events = lines.iter().flat_map(decode);
            if let Some(event) = events.find(|event| event.kind == EventType::Started) {
                started.get_or_insert(event.data.0);
                runner::end_group(pid, rustix::process::Signal::TERM);
            }
        }
        started
    };
    let talk = child.talk(input.to_owned(), LIMITS, lines, std::future::pending::<()>());
    let (ended, started) = tokio::join!(talk, listen);
    started.ok_or_else(|| match ended.cause {
        Some(runner::Cause::Deadline) => failed("it did not start in time".to_owned()),
        _ => failed(format!("it told no tools: {}", secrets.hide(ended.stderr))),
    })
}

/// Returns the provider's own tools, and the servers with theirs.
fn parse_report(report: &Value) -> (Vec<String>, Vec<ServerInfo>) {
    let names = |value: &Value| -> Vec<String> {
        let names = value.as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let servers = report["mcp_servers"].as_array().into_iter().flatten();
    let servers: Vec<_> = servers
        .map(|server| ServerInfo {
            name: server["name"].as_str().unwrap_or_default().to_owned(),
            state: server["status"].as_str().unwrap_or("unknown").to_owned(),
            detail: None,
            tools: names(&server["tools"]),
        })
        .collect();
    let mut tools = names(&report["tools"]);
    tools.retain(|tool| !servers.iter().any(|server| server.tools.contains(tool)));
    (tools, servers)
}

/// Asks one server for its tools; a failure is part of the result.
async fn ask_server(name: &str, server: &McpServer, cwd: &str, base: Environment) -> ServerInfo {
    let asked = match server {
        McpServer::Stdio { command, args, env, cwd: own } => {
            let env = env.0.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
            let plan = LaunchPlan {
                program: command.clone(),
                args: args.clone(),
                cwd: own.clone().unwrap_or_else(|| cwd.to_owned()),
                env: env.collect(),
            };
            mcp_client::stdio::tools(&plan, &base).await
        }
        McpServer::Http { url, headers } => mcp_client::http::tools(url, headers, &base).await,
    };
    let (state, detail, tools) = match asked {
        Ok(tools) => ("connected", None, tools),
        Err(Refusal::NeedsAuth(why)) => ("needs-auth", Some(why), Vec::new()),
        Err(Refusal::Failed(why)) => ("failed", Some(why), Vec::new()),
    };
    let hidden = secrets::of_server(server, &base);
    // Cut after redaction, so that no half of a secret is left.
    let cut = |why: String| why.chars().take(DETAIL_CHARS_MAX).collect();
    let detail = detail.map(|why| cut(hidden.hide(why)));
    ServerInfo { name: name.to_owned(), state: state.to_owned(), detail, tools }
}
