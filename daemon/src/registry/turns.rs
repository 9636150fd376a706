//! Turns: accepted once, run in order, written down while the answer arrives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use sessd_proto::service::WAIT_MS_MAX;
use sessd_proto::turn::{
    SendRequest, SendResponse, Turn, TurnOutput, TurnOutputRequest, TurnState,
};
use sessd_proto::{Environment, Event, Fault, FaultCode, Kind, LaunchPlan, Status};
use tokio::sync::{Semaphore, mpsc, watch};
use uuid::Uuid;

use super::homes::KnownHome;
use super::{Registry, checks, launches};
use crate::clock::now;
use crate::process;
use crate::providers::{self, Provider, TurnSpec};
use crate::runner::{self, Cause, Ended, Limits, Process};
use crate::store::bindings::{self, Discovered};
use crate::store::sessions::{self, Stored};
use crate::store::turns::{self as rows, Group};

/// Output answered at once, in bytes; well below what a client accepts.
const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines that may wait to be written down before the provider has to.
const LINES_MAX: usize = 256;

/// Turns that wait for their place, by session.
#[derive(Debug)]
pub struct Queues {
    waiting: Mutex<HashMap<String, VecDeque<Waiting>>>,
    slots: HashMap<&'static str, Arc<Semaphore>>,
    /// Counts everything that followers of turns wait for.
    changed: watch::Sender<u64>,
}

/// A turn that waits, with what is kept in memory only.
#[derive(Debug)]
struct Waiting {
    turn_id: String,
    prompt: String,
    environment: Environment,
}

impl Queues {
    pub(super) fn new(per_provider: usize) -> Self {
        let slot =
            |provider: &&dyn Provider| (provider.id(), Arc::new(Semaphore::new(per_provider)));
        Self {
            waiting: Mutex::default(),
            slots: providers::ALL.iter().map(slot).collect(),
            changed: watch::Sender::new(0),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_followers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

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
            return Err(Fault::new(FaultCode::Usage, "the prompt is empty"));
        }
        self.remember_caller(&request.environment).await?;
        let id = request.turn_id.clone();
        if let Some(turn) = self.store.read(move |c| rows::by_id(c, &id)).await? {
            return self.accepted(turn).await;
        }
        let (row, new) = match (&request.new_agent, &request.selector) {
            (Some(agent), None) => (None, Some(self.new_session(agent, &request)?)),
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
        let turn = self.enqueue(row.as_ref(), new, request).await?;
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
    fn new_session(&self, agent: &str, request: &SendRequest) -> Result<NewSession, Fault> {
        let provider = providers::by_id(agent).ok_or_else(|| no_agent(agent))?;
        let mut env = self.env.clone();
        env.0.extend(request.environment.0.clone());
        let home = provider.homes(&env).into_iter().next();
        let home = home.ok_or_else(|| Fault::internal("the provider has no home"))?;
        let id = Uuid::new_v4().to_string();
        let spec = TurnSpec { resume: None, new_id: Some(id.clone()), cwd: request.cwd.clone() };
        if provider.plan_turn(&home, &spec).is_none() {
            return Err(cannot_send(provider.id()));
        }
        let found = Discovered {
            id: id.clone(),
            provider: provider.id().to_owned(),
            provider_session_id: id,
            project: super::sessions::project_root(&request.cwd),
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
        if self.turns.waiting().contains_key(&row.session.id) {
            return Ok(());
        }
        let row = self.check_row(row.clone(), false).await?;
        let live = self.live(&row).await?;
        if live.blocks() {
            return Err(launches::busy(&row.session, &live));
        }
        launches::may_resume(&row.session, &Default::default(), false)
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

    /// Puts a turn at the end of its session's queue, and starts the queue if it stood still.
    fn wait_for_place(self: &Arc<Self>, session_id: String, waiting: Waiting) {
        let mut queues = self.turns.waiting();
        if let Some(queue) = queues.get_mut(&session_id) {
            queue.push_back(waiting);
            return;
        }
        queues.insert(session_id.clone(), [waiting].into());
        drop(queues);
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(next) = registry.next_waiting(&session_id) {
                let turn_id = next.turn_id.clone();
                let outcome = registry.run_turn(&session_id, next).await;
                registry.finish(turn_id, outcome).await;
            }
        });
    }

    /// The turn whose turn it is; the queue ends when there is none.
    fn next_waiting(&self, session_id: &str) -> Option<Waiting> {
        let mut queues = self.turns.waiting();
        let next = queues.get_mut(session_id).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(session_id);
        }
        next
    }

    async fn finish(&self, turn_id: String, outcome: Result<(), Fault>) {
        let state = if outcome.is_ok() { TurnState::Succeeded } else { TurnState::Failed };
        let fault = outcome.err();
        let stored = self
            .store
            .promise(move |tx| rows::finish(tx, &turn_id, state, now(), fault.as_ref()))
            .await;
        if let Err(error) = stored {
            tracing::error!("cannot write down how a turn ended: {error}");
        }
        self.turns.wake_followers();
    }

    async fn run_turn(self: &Arc<Self>, session_id: &str, waiting: Waiting) -> Result<(), Fault> {
        let id = session_id.to_owned();
        let row = self.store.read(move |c| sessions::by_id(c, &id)).await?;
        let row = row.ok_or_else(|| Fault::new(FaultCode::NotFound, "the session was deleted"))?;
        let known = self.home_of(&row).await?.ok_or_else(|| Fault::internal("no home"))?;
        let slots = self.turns.slots.get(known.provider.id()).cloned();
        let _slot = match slots {
            Some(slots) => slots.acquire_owned().await.ok(),
            None => None,
        };
        let live = self.live(&row).await?;
        if live.blocks() {
            return Err(launches::busy(&row.session, &live));
        }
        let plan = known.provider.plan_turn(&known.home, &turn_spec(&row));
        let plan = plan.ok_or_else(|| cannot_send(known.provider.id()))?;
        let plan = self.completed(&known, plan);
        let ended = self.converse(&known, &row, plan, waiting).await;
        self.sweep_home(&known).await?;
        ended
    }

    /// Starts the provider and writes down what it says.
    async fn converse(
        self: &Arc<Self>,
        known: &KnownHome,
        row: &Stored,
        plan: LaunchPlan,
        waiting: Waiting,
    ) -> Result<(), Fault> {
        let Waiting { turn_id, prompt, environment } = waiting;
        let mut base = self.env.clone();
        base.0.extend(environment.0);
        let process = Process::start(&plan, &base).map_err(|error| not_started(&plan, &error))?;
        let lease = self.lease(&row.session, process.pid(), "turn").await?;
        let group = Group {
            pgid: process.pid(),
            start_ticks: lease.start_ticks,
            boot_id: lease.boot_id.clone(),
        };
        let id = turn_id.clone();
        self.store.promise(move |tx| rows::run(tx, &id, now(), &group)).await?;
        self.turns.wake_followers();
        let limits = Limits {
            deadline: Duration::from_secs(self.config.turns.deadline_s),
            output_bytes_max: self.config.turns.output_bytes_max,
        };
        let (lines, incoming) = mpsc::channel(LINES_MAX);
        let talk = process.talk(prompt, limits, lines);
        let (ended, heard) =
            tokio::join!(talk, self.write_down(known.provider, &turn_id, incoming));
        self.end_lease(lease).await?;
        judge(known.provider.id(), row, &ended, &heard?)
    }

    /// Decodes lines and appends their events, a batch at a time; answers the last events of
    /// the kinds that decide about success.
    async fn write_down(
        &self,
        provider: &'static dyn Provider,
        turn_id: &str,
        mut lines: mpsc::Receiver<String>,
    ) -> Result<Heard, Fault> {
        let mut heard = Heard::default();
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, LINES_MAX).await > 0 {
            let decode = |line: String| provider.decode(&line);
            let stamp = |event| Event { at: now(), ..event };
            let events: Vec<Event> = batch.drain(..).flat_map(decode).map(stamp).collect();
            heard.listen(&events);
            let id = turn_id.to_owned();
            self.store.write(move |tx| rows::append_output(tx, &id, &events)).await?;
            self.turns.wake_followers();
        }
        Ok(heard)
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

/// What a turn's events said about its success.
#[derive(Debug, Default)]
struct Heard {
    result: bool,
    error: Option<String>,
    provider_session_id: Option<String>,
}

impl Heard {
    fn listen(&mut self, events: &[Event]) {
        for event in events {
            match &*event.kind {
                "result" => self.result = true,
                "error" => self.error.clone_from(&event.text),
                "started" => {
                    let id = event.data.0["provider_session_id"].as_str();
                    self.provider_session_id = id.map(str::to_owned);
                }
                _ => {}
            }
        }
    }
}

/// Success is the exit code *and* the final event *and* the same session id.
fn judge(provider: &str, row: &Stored, ended: &Ended, heard: &Heard) -> Result<(), Fault> {
    let failed = |what: String| {
        let detail = heard.error.as_deref().unwrap_or(&ended.stderr);
        let what = if detail.is_empty() { what } else { format!("{what}: {detail}") };
        Err(Fault::new(FaultCode::ProviderFailed, what)
            .hint("the session is as it was; send the prompt again"))
    };
    match (ended.cause, ended.status) {
        (Some(Cause::Deadline), _) => {
            let what = format!("{provider} took too long and was ended");
            Err(Fault::new(FaultCode::Deadline, what).hint("longer: turns.deadline_s"))
        }
        (Some(Cause::Flood), _) => failed(format!("{provider} printed too much and was ended")),
        (Some(Cause::Io), _) => failed(format!("{provider} could not be read")),
        (None, None) => failed(format!("{provider} closed its output but did not end")),
        (None, Some(status)) if !status.success() => failed(format!("{provider} failed: {status}")),
        (None, Some(_)) if !heard.result => failed(format!("{provider} ended without a result")),
        (None, Some(_)) if heard.provider_session_id != row.session.provider_session_id => {
            failed(format!("{provider} answered in another session"))
        }
        (None, Some(_)) => Ok(()),
    }
}

/// A session that is still starting has no transcript to resume.
fn turn_spec(row: &Stored) -> TurnSpec {
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

fn cannot_send(provider: &str) -> Fault {
    let what = format!("prompts cannot be sent to {provider} yet; a later version will");
    Fault::new(FaultCode::Unsupported, what)
        .hint("continue it at a terminal: `sessctl resume`, or try `sessctl send --new echo`")
}

fn not_started(plan: &LaunchPlan, error: &std::io::Error) -> Fault {
    let what = format!("cannot start {} in {}: {error}", plan.program, plan.cwd);
    Fault::new(FaultCode::ProviderUnavailable, what).hint("what the daemon sees: `sessctl doctor`")
}

fn no_turn(id: &str) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no turn {id}"))
}
