//! Turns and their output, written while it arrives.

use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use serde::Serialize;
use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, Fault, Timestamp};

use super::selector::PREFIX_MIN;
use super::{Error, Result, rebind};

/// A turn's process group, as it was when it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group, which is also its leader's pid.
    pub pgid: u32,
    /// When the leader started, in clock ticks since boot.
    pub start_ticks: u64,
    /// The boot in which it ran.
    pub boot_id: String,
}

/// What a turn was asked to be, beside what callers see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The whole prompt.
    pub prompt: String,
    /// How long the provider may take; else as configured.
    pub timeout_ms: Option<u64>,
    /// Whether the provider's own lines are recorded too.
    pub raw: bool,
    /// Whether it waits for whoever else has the session.
    pub wait: bool,
    /// Whether its session may begin anew if it cannot go on.
    pub fallback: bool,
    /// Whether it needs variables of the caller's, which are not written down.
    pub needs_environment: bool,
}

/// What [`turn`] reads.
const COLUMNS: &str = "rowid AS seq, id, session_id, agent, substr(prompt, 1, 400) AS beginning,
    state, queued_at, started_at, finished_at, fault, lost_context";

/// Records a turn as queued, unless there is one with this id.
///
/// # Errors
/// Those of SQLite.
pub fn queue(connection: &Connection, turn: &Turn, asked: &Asked) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO turns (id, session_id, state, prompt, agent, queued_at, timeout_ms, raw, wait,
             fallback, needs_environment)
         VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
    )?;
    let Turn { id, session_id, agent, queued_at, .. } = turn;
    let Asked { prompt, timeout_ms, raw, wait, fallback, needs_environment } = asked;
    let timeout_ms = timeout_ms.map(u64::cast_signed);
    statement.execute((
        id,
        session_id,
        prompt,
        agent,
        queued_at.0,
        timeout_ms,
        raw,
        wait,
        fallback,
        needs_environment,
    ))?;
    Ok(())
}

/// The turn with this id.
///
/// # Errors
/// Those of SQLite.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Turn>> {
    let sql = format!("SELECT {COLUMNS} FROM turns WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([id], turn).optional()?)
}

/// What a turn was asked to be.
///
/// # Errors
/// Those of SQLite.
pub fn asked(connection: &Connection, id: &str) -> Result<Option<Asked>> {
    let mut statement = connection.prepare_cached(
        "SELECT prompt, timeout_ms, raw, wait, fallback, needs_environment FROM turns
         WHERE id = ?1",
    )?;
    let asked = statement.query_row([id], |row| {
        Ok(Asked {
            prompt: row.get(0)?,
            timeout_ms: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
            raw: row.get(2)?,
            wait: row.get(3)?,
            fallback: row.get(4)?,
            needs_environment: row.get(5)?,
        })
    });
    Ok(asked.optional()?)
}

/// The turns that an id or the beginning of one means, at most a few; an exact match wins alone.
///
/// # Errors
/// Those of SQLite.
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

/// Which turns a page has.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this session.
    pub session_id: Option<String>,
    /// Only in this state.
    pub state: Option<TurnState>,
    /// Only those that were accepted before the one with this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Turns, the last accepted one first, and the number of the last one if there may be more.
///
/// # Errors
/// Those of SQLite.
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

/// Records that the provider is about to be started; `false` if the turn is over already. From
/// then on it is never started again, whatever happens.
///
/// # Errors
/// Those of SQLite.
pub fn start(connection: &Connection, id: &str, at: Timestamp) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = 'running', started_at = ?2,
             lost_context = (SELECT lost_context FROM sessions WHERE id = turns.session_id)
         WHERE id = ?1 AND state = 'queued'",
    )?;
    Ok(statement.execute((id, at.0))? > 0)
}

/// Records which processes run a turn; `false` if the turn is over already.
///
/// # Errors
/// Those of SQLite.
pub fn set_group(connection: &Connection, id: &str, group: &Group) -> Result<bool> {
    let Group { pgid, start_ticks, boot_id } = group;
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET pgid = ?2, start_ticks = ?3, boot_id = ?4
         WHERE id = ?1 AND state = 'running'",
    )?;
    Ok(statement.execute((id, pgid, start_ticks.cast_signed(), boot_id))? > 0)
}

/// True if the provider was started for a turn, or was about to be.
///
/// # Errors
/// Those of SQLite.
pub fn was_started(connection: &Connection, id: &str) -> Result<bool> {
    let begun = "SELECT 1 FROM turns WHERE id = ?1 AND started_at IS NOT NULL";
    Ok(connection.prepare_cached(begun)?.exists([id])?)
}

/// True while a turn of this session runs.
///
/// # Errors
/// Those of SQLite.
pub fn is_running(connection: &Connection, session_id: &str) -> Result<bool> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM turns WHERE session_id = ?1 AND +state = 'running'")?;
    Ok(statement.exists([session_id])?)
}

/// Records how a turn ended.
///
/// # Errors
/// Those of SQLite.
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
    }
    Ok(())
}

/// Ends all turns that no daemon goes on with: those that run, and those that wait and need
/// variables of their caller's. One by one, thousands would take too long.
///
/// # Errors
/// Those of SQLite.
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

/// Turns that run, with the process group of each, once that is known.
///
/// # Errors
/// Those of SQLite.
pub fn running(connection: &Connection) -> Result<Vec<(String, Option<Group>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, pgid, start_ticks, boot_id FROM turns WHERE state = 'running'",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("id")?, group(row)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Turns that wait, with their sessions, in the order of their acceptance.
///
/// # Errors
/// Those of SQLite.
pub fn waiting(connection: &Connection) -> Result<Vec<(String, String)>> {
    let mut statement = connection
        .prepare_cached("SELECT id, session_id FROM turns WHERE state = 'queued' ORDER BY rowid")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many turns wait, and how many run.
///
/// # Errors
/// Those of SQLite.
pub fn count(connection: &Connection) -> Result<(i64, i64)> {
    let sql = "SELECT count(*) - count(started_at), count(started_at) FROM turns
               WHERE state IN ('queued', 'running')";
    Ok(connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Appends events to a turn's output; their `seq` goes on from the last one.
///
/// # Errors
/// Those of SQLite.
pub fn append_output(connection: &Connection, id: &str, events: &[Event]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO turn_output (turn_id, seq, event)
         VALUES (?1, (SELECT ifnull(max(seq), 0) + 1 FROM turn_output WHERE turn_id = ?1), ?2)",
    )?;
    for event in events {
        statement.execute((id, json(event)?))?;
    }
    Ok(())
}

/// Output of a turn after an event, oldest first, at most about `bytes_max` of it; the flag
/// tells whether there is more.
///
/// # Errors
/// Those of SQLite.
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
        let event: Event =
            serde_json::from_str(text).map_err(|error| Error::Damaged(error.to_string()))?;
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

/// The beginning of a prompt, as a list shows it.
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

/// Finished turns to be forgotten, some at a time, oldest first: those beyond a number of newer
/// ones, and those that ended before a moment.
///
/// # Errors
/// Those of SQLite.
pub fn old(connection: &Connection, keep: u32, before: Option<Timestamp>) -> Result<Vec<String>> {
    const TURNS_MAX: u32 = 1_000;
    let mut statement = connection.prepare_cached(
        "SELECT id FROM turns WHERE finished_at IS NOT NULL AND finished_at <= max(ifnull(
             (SELECT finished_at FROM turns WHERE finished_at IS NOT NULL
              ORDER BY finished_at DESC LIMIT 1 OFFSET ?1), ?2), ?2)
         ORDER BY finished_at LIMIT ?3",
    )?;
    let before = before.map_or(i64::MIN, |before| before.0);
    let rows = statement.query_map((keep, before, TURNS_MAX), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets a turn and its output.
///
/// # Errors
/// Those of SQLite.
pub fn forget(connection: &Connection, id: &str) -> Result<()> {
    connection.execute("DELETE FROM turns WHERE id = ?1", [id])?;
    Ok(())
}
