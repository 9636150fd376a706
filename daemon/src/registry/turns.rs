//! Prompts: accepted once, and queued as turns.

use std::sync::Arc;

use sessd_proto::turn::{Fallback, SendRequest, SendResponse, TIMEOUT_MS_MAX, Turn};
use sessd_proto::{Environment, Fault, FaultCode, LaunchPlan};
use uuid::Uuid;

use super::homes::KnownHome;
use super::starting::{NewSession, STARTING, begin_anew, must_begin_anew, write_down};
use super::waiting::Waiting;
use super::{Registry, checks, launches, leases, prompts};
use crate::clock::now;
use crate::failpoint;
use crate::providers::{Home, Launch, Provider, TurnSpec};
use crate::store::keys;
use crate::store::marks;
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Asked};

/// How often a prompt is accepted anew when what it means changes in between.
const ATTEMPTS: usize = 3;

impl Registry {
    /// Accepts a prompt. Repeating a request answers the same turn and runs nothing twice.
    ///
    /// # Errors
    /// When there is no such session, it cannot be resumed, or somebody else has it.
    pub async fn send(
        self: &Arc<Self>,
        request: SendRequest,
        caller: u32,
    ) -> Result<SendResponse, Fault> {
        must_make_sense(&request)?;
        self.remember_caller(&request.environment).await?;
        let id = request.turn_id.clone();
        if let Some(turn) = self.store.read(move |c| rows::by_id(c, &id)).await? {
            return match turn.prompt == rows::one_line(&request.prompt) {
                true => self.accepted(turn).await,
                false => {
                    Err(Fault::new(FaultCode::Usage, "another prompt has the id of this turn")
                        .hint("make another one, as with `uuidgen`, or leave it out"))
                }
            };
        }
        failpoint::meet("send.unknown").await;
        for _ in 0..ATTEMPTS {
            let (row, new) = match self.meant(&request).await? {
                (Some(row), _) if request.fork => (None, Some(self.copied(&row, &request).await?)),
                meant => meant,
            };
            let anew = match &row {
                Some(row) => self.may_send(row, &request, caller).await?,
                None => None,
            };
            // A task of its own: a caller that goes away must not leave a turn that nobody runs.
            let (registry, request) = (Arc::clone(self), request.clone());
            let enqueue = async move { registry.enqueue(row.as_ref(), anew, new, request).await };
            if let Some(turn) = tokio::spawn(enqueue).await.map_err(Fault::internal)?? {
                return self.accepted(turn).await;
            }
        }
        let what = "the session was changed again and again while the prompt was accepted";
        Err(Fault::new(FaultCode::Busy, what).hint("try again"))
    }

    /// The session that a prompt goes to, or the one that it begins.
    async fn meant(
        self: &Arc<Self>,
        request: &SendRequest,
    ) -> Result<(Option<Stored>, Option<NewSession>), Fault> {
        match (&request.new_agent, &request.selector) {
            (Some(agent), Some(key)) => match self.of_key(key, agent).await? {
                Some(row) => Ok((Some(row), None)),
                None => Ok((None, Some(self.first_turn(agent, request).await?))),
            },
            (Some(agent), None) => Ok((None, Some(self.first_turn(agent, request).await?))),
            (None, Some(selector)) => Ok((Some(self.resolve(selector).await?), None)),
            (None, None) => Ok((Some(self.newest_resumable(&request.cwd).await?), None)),
        }
    }

    pub(super) async fn accepted(self: &Arc<Self>, turn: Turn) -> Result<SendResponse, Fault> {
        let id = turn.session_id.clone();
        let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let row = row.ok_or_else(|| Fault::internal("a turn without its session"))?;
        let mut sessions = self.with_live(vec![row]).await?;
        Ok(SendResponse { session: sessions.pop().unwrap_or_default(), turn })
    }

    /// The session that a prompt begins.
    async fn first_turn(&self, agent: &str, request: &SendRequest) -> Result<NewSession, Fault> {
        let id = Uuid::new_v4().to_string();
        let SendRequest { cwd, cwd_given, environment, .. } = request;
        let new = self.new_session(id, agent, cwd, *cwd_given, environment).await?;
        let new_id = Some(new.found.provider_session_id.clone()).filter(|id| !id.is_empty());
        let (cwd, launch) = (new.found.launch_dir.clone(), new.launch.clone());
        prompts::must_fit(new.provider, &request.prompt)?;
        let spec = TurnSpec { resume: None, new_id, cwd, launch };
        match new.provider.turns().and_then(|turns| turns.plan(&new.home, &spec)) {
            Some(_) => Ok(new),
            None => Err(cannot_send(new.provider.id())),
        }
    }

    /// The copy of a session that a prompt begins. It takes nothing away from whoever has the
    /// original.
    async fn copied(
        self: &Arc<Self>,
        row: &Stored,
        request: &SendRequest,
    ) -> Result<NewSession, Fault> {
        let known = self.home_of(row).await?.ok_or_else(|| Fault::internal("no home"))?;
        let row = self.check_row(row.clone(), false).await?;
        launches::may_resume(&row.session, &Default::default(), false)?;
        let id = Uuid::new_v4().to_string();
        self.copy_of(&known, &row, id, None, &request.environment).await
    }

    /// Free checks before anything is written down; answers the session if it must begin anew.
    async fn may_send(
        self: &Arc<Self>,
        row: &Stored,
        request: &SendRequest,
        caller: u32,
    ) -> Result<Option<Stored>, Fault> {
        let known = self.home_of(row).await?.ok_or_else(|| Fault::internal("no home"))?;
        prompts::must_fit(known.provider, &request.prompt)?;
        self.plan_turn(&known, row, &request.environment).await?;
        if request.steal {
            if request.fallback != Fallback::New {
                // Before anybody is asked to end.
                launches::may_ever(&row.session, &Default::default(), false)?;
            }
            self.turns.stop_current(&row.session.id, None);
            self.steal(row, caller).await?;
        }
        if self.turns.has(&row.session.id) {
            // It is checked when it is its turn.
            return Ok(None);
        }
        let row = self.check_begun(&known, row.clone()).await?;
        let live = self.live(&row).await?;
        if live.blocks() && !self.is_own_turn(&row).await? {
            let short = row.session.short_id();
            return match request.wait {
                true => Ok(None),
                false => Err(leases::busy(&row.session, &live).hint(format!(
                    "end it there first, or wait for it: `sessctl send --wait {short} …`"
                ))),
            };
        }
        let anew = must_begin_anew(&row.session, request.fallback == Fallback::New)?;
        Ok(anew.then_some(row))
    }

    /// How the next prompt of a session is sent.
    pub(super) async fn plan_turn(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        environment: &Environment,
    ) -> Result<(LaunchPlan, Launch), Fault> {
        let launch = self.launch(row, environment)?;
        let spec = turn_spec(row, launch.clone());
        let plan = match self.original(row).await? {
            None => known.provider.turns().and_then(|turns| turns.plan(&known.home, &spec)),
            Some(original) => {
                let resume = Some(checks::bound(&original));
                let spec = TurnSpec { resume, ..spec };
                known.provider.forks().map(|forks| forks.plan_turn(&known.home, &spec))
            }
        };
        let plan = plan.ok_or_else(|| cannot_send(known.provider.id()))?;
        Ok((plan, launch))
    }

    /// True if what was just seen running is a turn that was accepted meanwhile, or has ended.
    async fn is_own_turn(self: &Arc<Self>, row: &Stored) -> Result<bool, Fault> {
        let id = &row.session.id;
        Ok(self.turns.has(id) || !self.live(row).await?.blocks() || self.turns.has(id))
    }

    /// Writes the turn down, and a new session and its key with it, then lets it wait its place;
    /// `None` if what was meant has changed meanwhile.
    async fn enqueue(
        self: &Arc<Self>,
        row: Option<&Stored>,
        anew: Option<Stored>,
        new: Option<NewSession>,
        request: SendRequest,
    ) -> Result<Option<Turn>, Fault> {
        let (turn, asked) = self.written(row, new.as_ref(), &request).await?;
        let (wanted, ttl_ms) = (turn.clone(), request.ttl_ms);
        let begins = new.is_some() || anew.is_some();
        let key = request.selector.clone().filter(|_| new.is_some() && !request.fork);
        let stored = self
            .store
            .promise(move |tx| {
                // A request may be repeated while it is being accepted.
                if let Some(turn) = rows::by_id(tx, &wanted.id)? {
                    return Ok(Some((turn, false)));
                }
                if let Some(key) = &key
                    && keys::session_of(tx, key)?.is_some()
                {
                    // Somebody's first message was faster.
                    return Ok(None);
                }
                if let Some(row) = &anew
                    && (leases::is_leased(tx, row)? || !begin_anew(tx, row)?)
                {
                    return Ok(None);
                }
                if let Some(new) = new {
                    write_down(tx, new)?;
                }
                if let Some(key) = &key {
                    keys::bind(tx, key, &wanted.session_id, now())?;
                }
                if let Some(ttl_ms) = ttl_ms {
                    marks::live_for(tx, &wanted.session_id, Some(ttl_ms))?;
                }
                rows::queue(tx, &wanted, &asked)?;
                Ok(Some((wanted, true)))
            })
            .await?;
        let Some((turn, is_new)) = stored else { return Ok(None) };
        if is_new {
            let (turn_id, environment) = (turn.id.clone(), request.environment);
            let waiting = Waiting { turn_id, environment, begins };
            self.wait_for_place(turn.session_id.clone(), waiting);
        }
        Ok(Some(turn))
    }

    /// A prompt as it is written down.
    async fn written(
        &self,
        row: Option<&Stored>,
        new: Option<&NewSession>,
        request: &SendRequest,
    ) -> Result<(Turn, Asked), Fault> {
        let (session_id, agent, needs_environment) = match (row, new) {
            (Some(row), _) => {
                let known = self.home_of(row).await?.ok_or_else(|| Fault::internal("no home"))?;
                let needs = self.needs(known.provider, &request.environment, &known.home);
                (&row.session.id, &row.session.agent, needs)
            }
            (None, Some(new)) => {
                let needs = self.needs(new.provider, &request.environment, &new.home);
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

    /// True if a provider needs variables of the caller's other than those that select the home:
    /// they are in memory only, so that no other daemon has them.
    fn needs(&self, provider: &dyn Provider, environment: &Environment, home: &Home) -> bool {
        let more = self.config.environment.get(provider.id()).into_iter().flatten();
        let mut names = provider.environment().iter().copied().chain(more.map(String::as_str));
        names.any(|name| environment.get(name).is_some() && !home.env.contains_key(name))
    }

    /// True while turns wait or run.
    #[must_use]
    pub fn has_turns(&self) -> bool {
        self.turns.has_any()
    }
}

fn must_make_sense(request: &SendRequest) -> Result<(), Fault> {
    if Uuid::parse_str(&request.turn_id).is_err() {
        return Err(Fault::new(FaultCode::Usage, "the turn's id is not a UUID")
            .hint("make one, as with `uuidgen`, or leave it out"));
    }
    if request.new_agent.is_some() && request.fork {
        return Err(Fault::new(FaultCode::Usage, "a new session cannot be a copy"));
    }
    if request.timeout_ms.is_some_and(|ms| !(1..=TIMEOUT_MS_MAX).contains(&ms)) {
        return Err(Fault::new(FaultCode::Usage, "the timeout is not between 1 ms and 1 h")
            .hint("`--timeout 1h`, or leave it out"));
    }
    if request.prompt.trim().is_empty() {
        return Err(Fault::new(FaultCode::Usage, "the prompt is empty")
            .hint("give it as the last argument, or pipe it in"));
    }
    Ok(())
}

/// A session that is still starting has no transcript to resume.
pub(super) fn turn_spec(row: &Stored, launch: Launch) -> TurnSpec {
    let starting = row.session.reason.as_deref() == Some(STARTING);
    let bound = checks::bound(row);
    TurnSpec {
        new_id: row.session.provider_session_id.clone().filter(|_| starting),
        cwd: bound.launch_dir.clone(),
        resume: (!starting).then_some(bound),
        launch,
    }
}

pub(super) fn cannot_send(provider: &str) -> Fault {
    Fault::new(FaultCode::Unsupported, format!("prompts cannot be sent to {provider}"))
        .hint("continue it at a terminal: `sessctl resume`")
}
