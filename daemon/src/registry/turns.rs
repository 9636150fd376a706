//! Turns: accepted once, followed while they run, ended with the daemon.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::turn::{
    Fallback, SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnState,
};
use sessd_proto::{Fault, FaultCode};
use uuid::Uuid;

use super::queues::Waiting;
use super::starting::{NewSession, STARTING, begin_anew, may_begin_anew, write_down};
use super::{Registry, checks, launches, leases};
use crate::clock::now;
use crate::providers::{Launch, TurnSpec};
use crate::store::keys;
use crate::store::marks;
use crate::store::sessions::{self, Stored};
use crate::store::turns as rows;
use crate::{process, runner};

/// How often a prompt is accepted anew when what it means changes in between.
const ATTEMPTS: usize = 3;

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
        for _ in 0..ATTEMPTS {
            let (row, new) = self.meant(&request).await?;
            let anew = match &row {
                Some(row) => self.may_send(row, &request).await?,
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

    async fn accepted(self: &Arc<Self>, turn: Turn) -> Result<SendResponse, Fault> {
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
        let spec = TurnSpec { resume: None, new_id, cwd, launch };
        match new.provider.plan_turn(&new.home, &spec) {
            Some(_) => Ok(new),
            None => Err(cannot_send(new.provider.id())),
        }
    }

    /// Free checks before anything is written down; answers the session if it must begin anew.
    async fn may_send(
        self: &Arc<Self>,
        row: &Stored,
        request: &SendRequest,
    ) -> Result<Option<Stored>, Fault> {
        let known = self.home_of(row).await?.ok_or_else(|| Fault::internal("no home"))?;
        let spec = turn_spec(row, self.launch(row, &request.environment)?);
        if known.provider.plan_turn(&known.home, &spec).is_none() {
            return Err(cannot_send(known.provider.id()));
        }
        if self.turns.has(&row.session.id) {
            return Ok(None);
        }
        let row = self.check_row(row.clone(), false).await?;
        let live = self.live(&row).await?;
        if live.blocks() && !self.is_own_turn(&row).await? {
            return Err(leases::busy(&row.session, &live));
        }
        match launches::may_resume(&row.session, &Default::default(), false) {
            Ok(()) => Ok(None),
            Err(fault) if !may_begin_anew(&row.session) => Err(fault),
            Err(_) if request.fallback == Fallback::New => Ok(Some(row)),
            Err(fault) => {
                let hint = fault.hint.clone().unwrap_or_default();
                Err(fault
                    .hint(format!("{hint}; or begin it anew: `sessctl send --fallback new …`")))
            }
        }
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
        let (wanted, prompt, ttl_ms) = (turn.clone(), request.prompt.clone(), request.ttl_ms);
        let key = request.selector.clone().filter(|_| new.is_some());
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
                rows::queue(tx, &wanted, &prompt, &agent)?;
                Ok(Some((wanted, true)))
            })
            .await?;
        let Some((turn, is_new)) = stored else { return Ok(None) };
        if is_new {
            let waiting = Waiting {
                turn_id: turn.id.clone(),
                prompt: request.prompt,
                environment: request.environment,
            };
            self.wait_for_place(turn.session_id.clone(), waiting);
        }
        Ok(Some(turn))
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

fn no_turn(id: &str) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no turn {id}"))
}
