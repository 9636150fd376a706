//! Turns and their output, which is stored as it arrives. Knows no provider and no process.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use serde::Serialize;
use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, Fault, Timestamp};

use super::events::parse_event;
use super::selector::PREFIX_MIN;
use super::{Error, Result, rebind, usage};

/// The process group of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The id of the group, which is also the pid of its leader.
    pub pgid: u32,
    /// The start time of the leader, in clock ticks since boot.
    pub start_ticks: u64,
    /// The id of the boot in which it ran.
    pub boot_id: String,
}

/// The request behind a turn, beyond the part that callers see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The whole prompt.
    pub prompt: String,
    /// The deadline of the provider in milliseconds; `None` means as configured.
    pub timeout_ms: Option<u64>,
    /// True to record the provider's raw lines, too.
    pub raw: bool,
    /// True to wait while another process has the session.
    pub wait: bool,
    /// True to start the session over if it cannot be resumed (`--fallback new`).
    pub fallback: bool,
    /// True if it needs environment variables of the caller, which are not stored.
    pub needs_environment: bool,
}

/// The columns that [`turn`] reads, by name.
const COLUMNS: &str = "rowid AS seq, id, session_id, agent, substr(prompt, 1, 400) AS beginning,
    state, queued_at, started_at, finished_at, fault, lost_context";

/// Records a turn as queued, unless there is one with this id already.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn queue(connection: &Connection, turn: &Turn, asked: &Asked) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO turns (id, session_id, state, prompt, agent, queued_at, timeout_ms, raw, wait,
             fallback, needs_environment)
         VALUES (:id, :session_id, 'queued', :prompt, :agent, :queued_at, :timeout_ms, :raw, :wait,
             :fallback, :needs_environment) ON CONFLICT DO NOTHING",
    )?;
    let Turn { id, session_id, agent, queued_at, .. } = turn;
    let Asked { prompt, timeout_ms, raw, wait, fallback, needs_environment } = asked;
    let timeout_ms = timeout_ms.map(u64::cast_signed);
    statement.execute(named_params! {
        ":id": id, ":session_id": session_id, ":prompt": prompt, ":agent": agent,
        ":queued_at": queued_at.0, ":timeout_ms": timeout_ms, ":raw": raw, ":wait": wait,
        ":fallback": fallback, ":needs_environment": needs_environment,
    })?;
    Ok(())
}

/// Returns the turn with this id.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Turn>> {
    let sql = format!("SELECT {COLUMNS} FROM turns WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([id], turn).optional()?)
}

/// Returns the request behind a turn.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn asked(connection: &Connection, id: &str) -> Result<Option<Asked>> {
    let mut statement = connection.prepare_cached(
        "SELECT prompt, timeout_ms, raw, wait, fallback, needs_environment FROM turns
         WHERE id = ?1",
    )?;
    let asked = statement.query_row([id], |row| {
        Ok(Asked {
            prompt: row.get("prompt")?,
            timeout_ms: row.get::<_, Option<i64>>("timeout_ms")?.map(i64::cast_unsigned),
            raw: row.get("raw")?,
            wait: row.get("wait")?,
            fallback: row.get("fallback")?,
            needs_environment: row.get("needs_environment")?,
        })
    });
    Ok(asked.optional()?)
}

/// Returns the turns with this id or id prefix, at most ten. An exact match wins over prefixes.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn find(connection: &Connection, text: &str) -> Result<Vec<Turn>> {
    if let Some(exact) = by_id(connection, text)? {
        return Ok(vec![exact]);
    }
    if text.chars().count() < PREFIX_MIN {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM turns WHERE id >= ?1 AND id < ?2 LIMIT 10");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((text, format!("{text}{}", char::MAX)), turn)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The selection and size of a page of turns.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only turns of this session.
    pub session_id: Option<String>,
    /// Only turns in this state.
    pub state: Option<TurnState>,
    /// Only turns that were accepted before the one with this row number.
    pub before: Option<i64>,
    /// Upper limit of turns.
    pub limit: u32,
}

/// Returns turns, newest first, and the row number of the last one if there may be more.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn page(connection: &Connection, filter: &Filter) -> Result<(Vec<Turn>, Option<i64>)> {
    let mut sql = format!("SELECT {COLUMNS} FROM turns WHERE rowid < ?1");
    let mut parameters: Vec<&dyn ToSql> = Vec::new();
    let before = filter.before.unwrap_or(i64::MAX);
    parameters.push(&before);
    let state = filter.state.map(TurnState::as_str);
    if let Some(id) = &filter.session_id {
        parameters.push(id);
        sql += &format!(" AND session_id = ?{}", parameters.len());
    }
    if let Some(state) = &state {
        parameters.push(state);
        // A session has few turns, a state may have many.
        let state = if filter.session_id.is_some() { "+state" } else { "state" };
        sql += &format!(" AND {state} = ?{}", parameters.len());
    }
    sql += &format!(" ORDER BY rowid DESC LIMIT {}", filter.limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(&*parameters, |row| Ok((row.get("seq")?, turn(row)?)))?;
    let rows: Vec<(i64, Turn)> = rows.collect::<rusqlite::Result<_>>()?;
    let is_full = rows.len() == filter.limit as usize;
    let next = rows.last().map(|(seq, _)| *seq).filter(|_| is_full);
    Ok((rows.into_iter().map(|(_, turn)| turn).collect(), next))
}

/// Marks a queued turn as running, right before its provider is started; `false` if it is over
/// already. A running turn is never started again, not even after a crash.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn start(connection: &Connection, id: &str, at: Timestamp) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = 'running', started_at = ?2,
             lost_context = (SELECT lost_context FROM sessions WHERE id = turns.session_id)
         WHERE id = ?1 AND state = 'queued'",
    )?;
    Ok(statement.execute((id, at.0))? > 0)
}

/// Records the process group of a running turn; `false` if the turn is over already.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn set_group(connection: &Connection, id: &str, group: &Group) -> Result<bool> {
    let Group { pgid, start_ticks, boot_id } = group;
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET pgid = ?2, start_ticks = ?3, boot_id = ?4
         WHERE id = ?1 AND state = 'running'",
    )?;
    Ok(statement.execute((id, pgid, start_ticks.cast_signed(), boot_id))? > 0)
}

/// True if the turn was marked as running at some time.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn was_started(connection: &Connection, id: &str) -> Result<bool> {
    let started = "SELECT 1 FROM turns WHERE id = ?1 AND started_at IS NOT NULL";
    Ok(connection.prepare_cached(started)?.exists([id])?)
}

/// True if a turn of this session is running.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn is_running(connection: &Connection, session_id: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM turns WHERE +state = 'running' AND (session_id = ?1 OR session_id IN (
             SELECT other.session_id FROM twins t JOIN twins other USING (writer_id)
             WHERE t.session_id = ?1))",
    )?;
    Ok(statement.exists([session_id])?)
}

/// Records how a turn ended, and counts it in its session if it has succeeded.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn finish(
    connection: &Connection,
    id: &str,
    state: TurnState,
    at: Timestamp,
    fault: Option<&Fault>,
) -> Result<()> {
    let fault = fault.map(json).transpose()?;
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = ?2, finished_at = ?3, fault = ?4
         WHERE id = ?1 AND state IN ('queued', 'running')",
    )?;
    if statement.execute((id, state.as_str(), at.0, fault))? > 0 && state == TurnState::Succeeded {
        rebind::clear_lost_context(connection, id)?;
        usage::count_turn(connection, id)?;
    }
    Ok(())
}

/// Interrupts all turns that no daemon can go on with after a restart: running ones, and queued
/// ones that need environment variables of their caller. One statement, as there may be
/// thousands.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn interrupt(
    connection: &Connection,
    at: Timestamp,
    running: &Fault,
    waiting: &Fault,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = 'interrupted', finished_at = ?1,
             fault = iif(state = 'running', ?2, ?3)
         WHERE state IN ('queued', 'running') AND (state = 'running' OR needs_environment)",
    )?;
    statement.execute((at.0, json(running)?, json(waiting)?))?;
    Ok(())
}

/// Returns the ids of running turns, with their process groups where these are known.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn running(connection: &Connection) -> Result<Vec<(String, Option<Group>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, pgid, start_ticks, boot_id FROM turns WHERE state = 'running'",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("id")?, group(row)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns queued turns as (turn id, session id), oldest first.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn waiting(connection: &Connection) -> Result<Vec<(String, String)>> {
    let mut statement = connection
        .prepare_cached("SELECT id, session_id FROM turns WHERE state = 'queued' ORDER BY rowid")?;
    let rows = statement.query_map([], |row| Ok((row.get("id")?, row.get("session_id")?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the numbers of queued and of running turns.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn count(connection: &Connection) -> Result<(i64, i64)> {
    let sql = "SELECT count(*) - count(started_at) AS queued, count(started_at) AS running
               FROM turns WHERE state IN ('queued', 'running')";
    Ok(connection.query_row(sql, [], |row| Ok((row.get("queued")?, row.get("running")?)))?)
}

/// Appends events to the output of a turn, numbered on from the last one, and adds the usage they
/// report to the totals of the session.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn append_output(connection: &Connection, id: &str, events: &[Event]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO turn_output (turn_id, seq, event)
         VALUES (?1, (SELECT ifnull(max(seq), 0) + 1 FROM turn_output WHERE turn_id = ?1), ?2)",
    )?;
    for event in events {
        statement.execute((id, json(event)?))?;
        usage::add(connection, id, event)?;
    }
    Ok(())
}

/// Returns the output of a turn after event `after`, oldest first, up to about `bytes_max` bytes;
/// the flag is true if there is more.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn output(
    connection: &Connection,
    id: &str,
    after: i64,
    bytes_max: usize,
) -> Result<(Vec<Event>, bool)> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, event FROM turn_output WHERE turn_id = ?1 AND seq > ?2 ORDER BY seq",
    )?;
    let mut rows = statement.query((id, after))?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if !events.is_empty() && bytes + text.len() > bytes_max {
            return Ok((events, true));
        }
        bytes += text.len();
        let event = parse_event(text).map_err(|error| Error::Damaged(error.to_string()))?;
        events.push(Event { seq: row.get(0)?, ..event });
    }
    Ok((events, false))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Other(error.to_string()))
}

fn group(row: &Row<'_>) -> rusqlite::Result<Option<Group>> {
    let Some(pgid) = row.get("pgid")? else { return Ok(None) };
    let start_ticks = row.get::<_, i64>("start_ticks")?.cast_unsigned();
    Ok(Some(Group { pgid, start_ticks, boot_id: row.get("boot_id")? }))
}

fn turn(row: &Row<'_>) -> rusqlite::Result<Turn> {
    let moment =
        |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<_>>(column)?.map(Timestamp));
    let fault: Option<String> = row.get("fault")?;
    Ok(Turn {
        id: row.get("id")?,
        session_id: row.get("session_id")?,
        agent: row.get("agent")?,
        prompt: one_line(row.get_ref("beginning")?.as_str()?),
        state: TurnState::parse(row.get_ref("state")?.as_str()?).unwrap_or_default(),
        queued_at: Timestamp(row.get("queued_at")?),
        started_at: moment("started_at")?,
        finished_at: moment("finished_at")?,
        fault: fault.and_then(|text| serde_json::from_str(&text).ok()),
        lost_context: row.get("lost_context")?,
    })
}

/// Returns the start of a prompt on one line, for lists.
pub fn one_line(prompt: &str) -> String {
    const CHARS: usize = 200;
    let mut line = String::new();
    for word in prompt.split_whitespace() {
        line += if line.is_empty() { "" } else { " " };
        line += word;
        if let Some((end, _)) = line.char_indices().nth(CHARS) {
            line.truncate(end);
            break;
        }
    }
    line
}

/// Returns finished turns that are due for deletion, oldest first, a batch at a time: all but the
/// `keep` newest, and all that ended before a time.
///
/// # Errors
/// Fails if the registry cannot be read.
pub fn old(connection: &Connection, keep: u32, before: Option<Timestamp>) -> Result<Vec<String>> {
    const BATCH_TURNS: u32 = 1_000;
    let mut statement = connection.prepare_cached(
        "SELECT id FROM turns WHERE finished_at IS NOT NULL AND finished_at <= max(ifnull(
             (SELECT finished_at FROM turns WHERE finished_at IS NOT NULL
              ORDER BY finished_at DESC LIMIT 1 OFFSET ?1), ?2), ?2)
         ORDER BY finished_at LIMIT ?3",
    )?;
    let before = before.map_or(i64::MIN, |before| before.0);
    let rows = statement.query_map((keep, before, BATCH_TURNS), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Deletes a turn and its output.
///
/// # Errors
/// Fails if the registry cannot be written.
pub fn forget(connection: &Connection, id: &str) -> Result<()> {
    connection.execute("DELETE FROM turns WHERE id = ?1", [id])?;
    Ok(())
}
