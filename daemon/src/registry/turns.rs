//! Turns: accepted once, followed while they run, ended with the daemon.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::turn::{
    SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnState,
};
use sessd_proto::{Fault, FaultCode, Kind, Status};
use uuid::Uuid;

use super::queues::Waiting;
use super::{Registry, checks, launches};
use crate::clock::now;
use crate::providers::{self, TurnSpec};
use crate::store::bindings::{self, Discovered};
use crate::store::sessions::{self, Stored};
use crate::store::turns as rows;
use crate::{process, runner};

/// Output answered at once, in bytes; well below what a client accepts.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Registry {
    /// Accepts a prompt. Repeating a request answers the same turn and runs nothing twice.
    ///
    /// # Errors
    /// When there is no such session, it cannot be resumed, or somebody else has it.
    pub async fn send(self: &Arc<Self>, request: SendRequest) -> Result<SendResponse, Fault> {
        if Uuid::parse_str(&request.turn_id).is_err() {
            return Err(Fault::new(FaultCode::Usage, "the turn's id is not a UUID"));
        }
        if request.prompt.trim().is_empty() {
            return Err(Fault::new(FaultCode::Usage, "the prompt is empty")
                .hint("give it as the last argument, or pipe it in"));
        }
        self.remember_caller(&request.environment).await?;
        let id = request.turn_id.clone();
        if let Some(turn) = self.store.read(move |c| rows::by_id(c, &id)).await? {
            return self.accepted(turn).await;
        }
        let (row, new) = match (&request.new_agent, &request.selector) {
            (Some(agent), None) => (None, Some(self.new_session(agent, &request).await?)),
            (None, Some(selector)) => (Some(self.resolve(selector).await?), None),
            (None, None) => (Some(self.newest_resumable(&request.cwd).await?), None),
            (Some(_), Some(_)) => {
                let what = "a prompt goes to a session or to a new one, not to both";
                return Err(Fault::new(FaultCode::Usage, what));
            }
        };
        if let Some(row) = &row {
            self.may_send(row).await?;
        }
        // A task of its own: a caller that goes away must not leave a turn that nobody runs.
        let registry = Arc::clone(self);
        let enqueue = async move { registry.enqueue(row.as_ref(), new, request).await };
        let turn = tokio::spawn(enqueue).await.map_err(Fault::internal)??;
        self.accepted(turn).await
    }

    async fn accepted(self: &Arc<Self>, turn: Turn) -> Result<SendResponse, Fault> {
        let id = turn.session_id.clone();
        let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let row = row.ok_or_else(|| Fault::internal("a turn without its session"))?;
        let mut sessions = self.with_live(vec![row]).await?;
        Ok(SendResponse { session: sessions.pop().unwrap_or_default(), turn })
    }

    /// The row of a session that is to be started with an agent.
    async fn new_session(&self, agent: &str, request: &SendRequest) -> Result<NewSession, Fault> {
        let provider = providers::by_id(agent).ok_or_else(|| no_agent(agent))?;
        let mut env = self.env.clone();
        env.0.extend(request.environment.0.clone());
        let home = provider.homes(&env).into_iter().next();
        let home = home.ok_or_else(|| {
            let what =
                format!("{} has no home: neither HOME nor its own variable is set", provider.id());
            Fault::new(FaultCode::Environment, what).hint("set HOME to your home directory")
        })?;
        let id = Uuid::new_v4().to_string();
        let spec = TurnSpec { resume: None, new_id: Some(id.clone()), cwd: request.cwd.clone() };
        if provider.plan_turn(&home, &spec).is_none() {
            return Err(cannot_send(provider.id()));
        }
        let found = Discovered {
            id: id.clone(),
            provider: provider.id().to_owned(),
            provider_session_id: id,
            project: self.project_of(&request.cwd).await?,
            kind: Kind::Headless,
            launch_dir: request.cwd.clone(),
            cwd: Some(request.cwd.clone()),
            status: Status::Unknown,
            reason: Some("starting".to_owned()),
            created_at: now(),
            last_activity: now(),
            at: now(),
            ..Discovered::default()
        };
        Ok(NewSession { found, home })
    }

    /// Free checks before anything is written down.
    async fn may_send(self: &Arc<Self>, row: &Stored) -> Result<(), Fault> {
        let known = self.home_of(row).await?.ok_or_else(|| Fault::internal("no home"))?;
        if known.provider.plan_turn(&known.home, &turn_spec(row)).is_none() {
            return Err(cannot_send(known.provider.id()));
        }
        if self.turns.has(&row.session.id) {
            return Ok(());
        }
        let row = self.check_row(row.clone(), false).await?;
        let live = self.live(&row).await?;
        if live.blocks() && !self.is_own_turn(&row).await? {
            return Err(launches::busy(&row.session, &live));
        }
        launches::may_resume(&row.session, &Default::default(), false)
    }

    /// True if what was just seen running is a turn that was accepted meanwhile, or has ended.
    async fn is_own_turn(self: &Arc<Self>, row: &Stored) -> Result<bool, Fault> {
        let id = &row.session.id;
        Ok(self.turns.has(id) || !self.live(row).await?.blocks() || self.turns.has(id))
    }

    /// Writes the turn down, and a new session with it, then lets it wait its place.
    async fn enqueue(
        self: &Arc<Self>,
        row: Option<&Stored>,
        new: Option<NewSession>,
        request: SendRequest,
    ) -> Result<Turn, Fault> {
        let agent = row.map_or_else(
            || request.new_agent.clone().unwrap_or_default(),
            |row| row.session.agent.clone(),
        );
        let session_id = row.map(|row| row.session.id.clone());
        let session_id = session_id.or(new.as_ref().map(|new| new.found.id.clone()));
        let turn = Turn {
            id: request.turn_id.clone(),
            session_id: session_id.unwrap_or_default(),
            queued_at: now(),
            ..Turn::default()
        };
        let (wanted, prompt) = (turn.clone(), request.prompt.clone());
        let stored = self
            .store
            .promise(move |tx| {
                // A request may be repeated while it is being accepted.
                if let Some(turn) = rows::by_id(tx, &wanted.id)? {
                    return Ok((turn, false));
                }
                if let Some(NewSession { mut found, home }) = new {
                    let path = home.path.to_string_lossy();
                    found.home_id = bindings::remember_home(tx, &found.provider, &path, &home.env)?;
                    bindings::absorb(tx, &found)?;
                }
                rows::queue(tx, &wanted, &prompt, &agent)?;
                Ok((wanted, true))
            })
            .await?;
        let (turn, is_new) = stored;
        if is_new {
            let waiting = Waiting {
                turn_id: turn.id.clone(),
                prompt: request.prompt,
                environment: request.environment,
            };
            self.wait_for_place(turn.session_id.clone(), waiting);
        }
        Ok(turn)
    }

    /// Long poll for the output of a turn.
    ///
    /// # Errors
    /// When there is no such turn.
    pub async fn turn_output(
        self: &Arc<Self>,
        request: TurnOutputRequest,
    ) -> Result<TurnOutput, Fault> {
        let mut changed = self.turns.changed.subscribe();
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(WAIT_MS_MAX)));
        let give_up = tokio::time::Instant::now() + wait;
        loop {
            let (id, after) = (request.turn_id.clone(), request.after);
            let (turn, (events, more)) = self
                .store
                .read(move |c| {
                    Ok((rows::by_id(c, &id)?, rows::output(c, &id, after, OUTPUT_BYTES_MAX)?))
                })
                .await?;
            let turn = turn.ok_or_else(|| no_turn(&request.turn_id))?;
            let done = turn.state.is_final() && !more;
            if done {
                let SendResponse { session, turn } = self.accepted(turn).await?;
                return Ok(TurnOutput { turn, events, session: Some(session) });
            }
            let waited = tokio::time::timeout_at(give_up, changed.changed());
            if !events.is_empty() || waited.await.is_err() {
                return Ok(TurnOutput { turn, events, session: None });
            }
        }
    }

    /// Ends the processes of unfinished turns that still run, and says so in their states.
    pub(super) async fn recover_turns(&self) -> Result<(), crate::store::Error> {
        let boot_id = process::boot_id();
        for (turn, group) in self.store.read(rows::pending).await? {
            if let Some(group) = group
                && group.boot_id == boot_id
                && process::start_ticks(group.pgid) == Some(group.start_ticks)
            {
                runner::end_group(group.pgid, Signal::TERM);
                runner::end_group(group.pgid, Signal::KILL);
            }
            let fault = Fault::new(FaultCode::ProviderFailed, "the daemon ended in the middle")
                .hint("send the prompt again");
            self.store
                .promise(move |tx| {
                    rows::finish(tx, &turn.id, TurnState::Interrupted, now(), Some(&fault))
                })
                .await?;
        }
        self.turns.wake_followers();
        Ok(())
    }

    /// Ends running turns before the daemon does.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn interrupt_turns(&self) -> Result<(), Fault> {
        self.turns.waiting().clear();
        Ok(self.recover_turns().await?)
    }

    /// True while turns wait or run.
    #[must_use]
    pub fn has_turns(&self) -> bool {
        !self.turns.waiting().is_empty()
    }
}

/// A session that will exist once its first turn is accepted.
struct NewSession {
    found: Discovered,
    home: providers::Home,
}

/// A session that is still starting has no transcript to resume.
pub(super) fn turn_spec(row: &Stored) -> TurnSpec {
    let starting = row.session.reason.as_deref() == Some("starting");
    let bound = checks::bound(row);
    TurnSpec {
        new_id: starting.then(|| bound.provider_session_id.clone()),
        cwd: bound.launch_dir.clone(),
        resume: (!starting).then_some(bound),
    }
}

fn no_agent(agent: &str) -> Fault {
    let names: Vec<_> = providers::ALL.iter().map(|provider| provider.id()).collect();
    Fault::new(FaultCode::NotFound, format!("there is no agent `{agent}`"))
        .hint(format!("agents: {}", names.join(", ")))
}

pub(super) fn cannot_send(provider: &str) -> Fault {
    let what = format!("prompts cannot be sent to {provider} yet; a later version will");
    Fault::new(FaultCode::Unsupported, what)
        .hint("continue it at a terminal: `sessctl resume`, or try `sessctl send --new echo`")
}

fn no_turn(id: &str) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no turn {id}"))
}
