//! Accepts a prompt: finds or creates its session, checks that it can be sent to, and stores the
//! turn. A repeated request returns the same turn and runs nothing twice.

use std::sync::Arc;

use sessd_proto::turn::{Fallback, SendRequest, SendResponse, TIMEOUT_MS_MAX, Turn};
use sessd_proto::{Environment, Fault, FaultCode, LaunchPlan};
use uuid::Uuid;

use super::Turns;
use super::prompt;
use crate::clock::now;
use crate::failpoint;
use crate::providers::{Bound, Home, Launch, Provider, TurnSpec};
use crate::registry::discovery::verdict::is_unstarted;
use crate::registry::homes::KnownHome;
use crate::registry::launch::admission::{Admission, needs_rebind};
use crate::registry::launch::create::{NewSession, insert, start_over};
use crate::registry::writers::leases;
use crate::registry::writers::queue::Waiting;
use crate::store::annotations;
use crate::store::keys;
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Asked};

/// Retries when the selected session changes while the prompt is being accepted.
const ATTEMPTS_MAX: usize = 3;

impl Turns {
    /// Accepts a prompt and queues it as a turn. Repeating a request returns the same turn.
    ///
    /// # Errors
    /// Fails with `usage` for an invalid request, if the session cannot be found or resumed, or
    /// with `busy` if another process has it.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: SendRequest,
        caller: u32,
    ) -> Result<SendResponse, Fault> {
        validate(&request)?;
        self.discovery.remember_caller(&request.environment).await?;
        let id = request.turn_id.clone();
        if let Some(turn) = self.store.read(move |c| rows::by_id(c, &id)).await? {
            return match turn.prompt == rows::one_line(&request.prompt) {
                true => self.respond(turn).await,
                false => Err(Fault::new(
                    FaultCode::Usage,
                    "turn id is already in use for a different prompt",
                )
                .hint("generate a new one (e.g. `uuidgen`) or omit it")),
            };
        }
        failpoint::meet("send.unknown").await;
        for _ in 0..ATTEMPTS_MAX {
            let (row, new) = match self.find_target(&request).await? {
                (Some(row), _) if request.fork => (None, Some(self.fork(&row, &request).await?)),
                target => target,
            };
            let restart = match &row {
                Some(row) => self.may_send(row, &request, caller).await?,
                None => None,
            };
            // A task of its own: a caller that goes away must not leave a turn that is never run.
            let (turns, request) = (Arc::clone(self), request.clone());
            let enqueue = async move { turns.enqueue(row.as_ref(), restart, new, request).await };
            if let Some(turn) = tokio::spawn(enqueue).await.map_err(Fault::internal)?? {
                return self.respond(turn).await;
            }
        }
        let what = "the session kept changing while the prompt was being accepted";
        Err(Fault::new(FaultCode::Busy, what).hint("try again"))
    }

    /// Returns the session that a prompt goes to, or the new one that it starts.
    async fn find_target(
        self: &Arc<Self>,
        request: &SendRequest,
    ) -> Result<(Option<Stored>, Option<NewSession>), Fault> {
        match (&request.new_agent, &request.selector) {
            (Some(agent), Some(key)) => match self.sessions.of_key(key, agent).await? {
                Some(row) => Ok((Some(row), None)),
                None => Ok((None, Some(self.new_session(agent, request).await?))),
            },
            (Some(agent), None) => Ok((None, Some(self.new_session(agent, request).await?))),
            (None, Some(selector)) => Ok((Some(self.sessions.resolve(selector).await?), None)),
            (None, None) => Ok((Some(self.sessions.newest_resumable(&request.cwd).await?), None)),
        }
    }

    /// Returns the response to an accepted prompt: the turn and its session.
    ///
    /// # Errors
    /// Fails if the registry cannot be read.
    pub(crate) async fn respond(self: &Arc<Self>, turn: Turn) -> Result<SendResponse, Fault> {
        let id = turn.session_id.clone();
        let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let row = row.ok_or_else(|| Fault::internal("a turn without its session"))?;
        let mut sessions = self.writers.with_live(vec![row]).await?;
        Ok(SendResponse { session: sessions.pop().unwrap_or_default(), turn })
    }

    /// Returns the new session that a prompt starts.
    ///
    /// # Errors
    /// Fails with `not_found` if there is no such agent, or with `unsupported` if its provider
    /// takes no prompts.
    async fn new_session(&self, agent: &str, request: &SendRequest) -> Result<NewSession, Fault> {
        let id = Uuid::new_v4().to_string();
        let SendRequest { cwd, cwd_given, environment, .. } = request;
        let new = self.launches.new_session(id, agent, cwd, *cwd_given, environment).await?;
        let new_id = Some(new.found.facts.provider_session_id.clone()).filter(|id| !id.is_empty());
        let (cwd, launch) = (new.found.facts.launch_dir.clone(), new.launch.clone());
        prompt::must_fit(new.provider, &request.prompt)?;
        let spec = TurnSpec { resume: None, new_id, cwd, launch };
        let known = KnownHome { id: 0, provider: new.provider, home: new.home.clone() };
        match self.launches.ask_plan(&known, plan_of(spec)).await? {
            Some(_) => Ok(new),
            None => Err(cannot_send(new.provider.id())),
        }
    }

    /// Returns the fork that a prompt starts; the original may be open in another process.
    async fn fork(
        self: &Arc<Self>,
        row: &Stored,
        request: &SendRequest,
    ) -> Result<NewSession, Fault> {
        let known = self.homes.of_session(row).await?;
        let row = self.discovery.check(row.clone()).await?;
        Admission::default().admit(&row.session)?;
        let id = Uuid::new_v4().to_string();
        self.launches.copy_of(&known, &row, id, None, &request.environment).await
    }

    /// Checks for free, before anything is stored, that a prompt may be sent. Returns the session
    /// if it must start over under its id.
    async fn may_send(
        self: &Arc<Self>,
        row: &Stored,
        request: &SendRequest,
        caller: u32,
    ) -> Result<Option<Stored>, Fault> {
        let known = self.homes.of_session(row).await?;
        prompt::must_fit(known.provider, &request.prompt)?;
        self.plan_turn(&known, row, &request.environment).await?;
        if request.steal {
            if request.fallback != Fallback::New {
                // Before another process is asked to end.
                Admission::default().precheck(&row.session)?;
            }
            self.writers.queues.stop_current(&row.session.id, None);
            self.launches.steal(row, caller).await?;
        }
        if self.writers.queues.has(&row.session.id) {
            // The session is checked again when this turn is the next to run.
            return Ok(None);
        }
        let row = self.launches.check_unstarted(&known, row.clone(), &request.environment);
        let row = row.await?;
        let live = self.writers.live(&row).await?;
        if live.blocks() && !self.is_own_turn(&row).await? {
            let short = row.session.short_id();
            return match request.wait {
                true => Ok(None),
                false => {
                    let fault = self.launches.busy(&row, &live).await?;
                    let hint = fault.hint.clone().unwrap_or_default();
                    let end = hint.split_once(", or wait: ").map_or(&*hint, |(end, _)| end);
                    Err(fault.hint(format!(
                        "{end}, or wait for it: `sessctl send --wait {short} PROMPT`"
                    )))
                }
            };
        }
        let restart = needs_rebind(&row.session, request.fallback == Fallback::New)?;
        Ok(restart.then_some(row))
    }

    /// Returns the launch plan of a session's next turn.
    ///
    /// # Errors
    /// Fails with `unsupported` if its provider takes no prompts, or if the session it was forked
    /// from cannot be resumed.
    pub(crate) async fn plan_turn(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        environment: &Environment,
    ) -> Result<(LaunchPlan, Launch), Fault> {
        let launch = self.launches.launch(row, environment).await?;
        let spec = turn_spec(row, self.homes.to_launch(row).await?, launch.clone());
        let plan = match self.launches.original(row).await? {
            None => self.launches.ask_plan(known, plan_of(spec)).await?,
            Some(original) => {
                let resume = Some(self.homes.to_launch(&original).await?);
                let spec = TurnSpec { resume, ..spec };
                let plan = move |known: &KnownHome| {
                    Some(known.provider.forks()?.plan_turn(&known.home, &spec))
                };
                self.launches.ask_plan(known, plan).await?
            }
        };
        let plan = plan.ok_or_else(|| cannot_send(known.provider.id()))?;
        Ok((plan, launch))
    }

    /// True if the process that has the session is a turn of ours, accepted since `queues` was
    /// read, or has ended by now.
    async fn is_own_turn(self: &Arc<Self>, row: &Stored) -> Result<bool, Fault> {
        let id = &row.session.id;
        Ok(self.writers.queues.has(id)
            || !self.writers.live(row).await?.blocks()
            || self.writers.queues.has(id))
    }

    /// Stores the turn, with its new session and key if there are any, and queues it. Returns
    /// `None` if the session has changed in the meantime.
    async fn enqueue(
        self: &Arc<Self>,
        row: Option<&Stored>,
        restart: Option<Stored>,
        new: Option<NewSession>,
        request: SendRequest,
    ) -> Result<Option<Turn>, Fault> {
        let (turn, asked) = self.to_turn(row, new.as_ref(), &request).await?;
        let (wanted, ttl_ms) = (turn.clone(), request.ttl_ms);
        let is_first = new.is_some() || restart.is_some();
        let key = request.selector.clone().filter(|_| new.is_some() && !request.fork);
        let stored = self
            .store
            .write_durable(move |tx| {
                // Requests may be repeated while they are being accepted.
                if let Some(turn) = rows::by_id(tx, &wanted.id)? {
                    return Ok(Some((turn, false)));
                }
                if let Some(key) = &key
                    && keys::session_of(tx, key)?.is_some()
                {
                    // Another request created the session for this key first; retry.
                    return Ok(None);
                }
                if let Some(row) = &restart
                    && (leases::is_leased(tx, row)? || !start_over(tx, row)?)
                {
                    return Ok(None);
                }
                if let Some(new) = new {
                    insert(tx, new)?;
                }
                if let Some(key) = &key {
                    keys::bind(tx, key, &wanted.session_id, now())?;
                }
                if let Some(ttl_ms) = ttl_ms {
                    annotations::set_ttl(tx, &wanted.session_id, Some(ttl_ms))?;
                }
                rows::queue(tx, &wanted, &asked)?;
                Ok(Some((wanted, true)))
            })
            .await?;
        let Some((turn, is_new)) = stored else { return Ok(None) };
        if is_new {
            let (turn_id, environment) = (turn.id.clone(), request.environment);
            let session_id = turn.session_id.clone();
            let waiting = Waiting { session_id, turn_id, environment, is_first };
            self.queue(waiting);
        }
        Ok(Some(turn))
    }

    /// Returns the turn of a prompt, and the options it is stored with.
    async fn to_turn(
        &self,
        row: Option<&Stored>,
        new: Option<&NewSession>,
        request: &SendRequest,
    ) -> Result<(Turn, Asked), Fault> {
        let (session_id, agent, needs_environment) = match (row, new) {
            (Some(row), _) => {
                let known = self.homes.of_session(row).await?;
                let needs = self.needs_caller(known.provider, &request.environment, &known.home);
                (&row.session.id, &row.session.agent, needs)
            }
            (None, Some(new)) => {
                let needs = self.needs_caller(new.provider, &request.environment, &new.home);
                (&new.found.id, request.new_agent.as_ref().unwrap_or(&new.found.provider), needs)
            }
            (None, None) => return Err(Fault::internal("a prompt without a session")),
        };
        let turn = Turn {
            id: request.turn_id.clone(),
            session_id: session_id.clone(),
            agent: agent.clone(),
            prompt: rows::one_line(&request.prompt),
            queued_at: now(),
            ..Turn::default()
        };
        let asked = Asked {
            prompt: request.prompt.clone(),
            timeout_ms: request.timeout_ms,
            raw: request.raw,
            wait: request.wait,
            fallback: request.fallback == Fallback::New,
            needs_environment,
        };
        Ok((turn, asked))
    }

    /// True if the turn needs variables from the caller besides those that select the home. They
    /// are kept in memory only, so a restarted daemon cannot run the turn.
    fn needs_caller(
        &self,
        provider: &dyn Provider,
        environment: &Environment,
        home: &Home,
    ) -> bool {
        let more = self.config.environment.get(provider.id()).into_iter().flatten();
        let mut names = provider.environment().iter().copied().chain(more.map(String::as_str));
        names.any(|name| environment.get(name).is_some() && !home.env.contains_key(name))
    }
}

fn validate(request: &SendRequest) -> Result<(), Fault> {
    if Uuid::parse_str(&request.turn_id).is_err() {
        return Err(Fault::new(FaultCode::Usage, "the turn id is not a UUID")
            .hint("generate one (e.g. `uuidgen`) or omit it"));
    }
    if request.new_agent.is_some() && request.fork {
        return Err(Fault::new(FaultCode::Usage, "a new session cannot be a fork"));
    }
    if request.timeout_ms.is_some_and(|ms| !(1..=TIMEOUT_MS_MAX).contains(&ms)) {
        return Err(Fault::new(FaultCode::Usage, "the timeout is not between 1 ms and 1 h")
            .hint("`--timeout 1h`, or omit it"));
    }
    if request.prompt.trim().is_empty() {
        return Err(Fault::new(FaultCode::Usage, "the prompt is empty")
            .hint("pass it as the last argument, or pipe it in"));
    }
    Ok(())
}

/// Returns the turn to plan; a session that was never started has no transcript to resume.
pub(crate) fn turn_spec(row: &Stored, bound: Bound, launch: Launch) -> TurnSpec {
    let unstarted = is_unstarted(&row.session);
    TurnSpec {
        new_id: row.session.provider_session_id.clone().filter(|_| unstarted),
        cwd: bound.launch_dir.clone(),
        resume: (!unstarted).then_some(bound),
        launch,
    }
}

/// Returns the planning of a turn; its result is `None` if the provider cannot run it.
fn plan_of(spec: TurnSpec) -> impl FnOnce(&KnownHome) -> Option<LaunchPlan> {
    move |known| known.provider.turns()?.plan(&known.home, &spec)
}

/// Returns the fault for a provider that takes no prompts.
pub(crate) fn cannot_send(provider: &str) -> Fault {
    Fault::new(FaultCode::Unsupported, format!("prompts cannot be sent to {provider}"))
        .hint("which providers take prompts: `sessctl providers`")
}
