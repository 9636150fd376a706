//! Turns and their output, written while it arrives.

use rusqlite::{Connection, OptionalExtension, Row};
use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, Fault, Timestamp};

use super::{Error, Result, fallback};

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

/// Records a turn as queued, unless there is one with this id.
///
/// # Errors
/// Those of SQLite.
pub fn queue(connection: &Connection, turn: &Turn, prompt: &str, agent: &str) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO turns (id, session_id, state, prompt, agent, queued_at)
         VALUES (?1, ?2, 'queued', ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    statement.execute((&turn.id, &turn.session_id, prompt, agent, turn.queued_at.0))?;
    Ok(())
}

/// The turn with this id.
///
/// # Errors
/// Those of SQLite.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<Turn>> {
    let mut statement = connection.prepare_cached("SELECT * FROM turns WHERE id = ?1")?;
    Ok(statement.query_row([id], turn).optional()?)
}

/// Records that the provider was started for a turn; `false` if the turn is over already.
///
/// # Errors
/// Those of SQLite.
pub fn run(connection: &Connection, id: &str, at: Timestamp, group: &Group) -> Result<bool> {
    let Group { pgid, start_ticks, boot_id } = group;
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = 'running', started_at = ?2, pgid = ?3, start_ticks = ?4,
             boot_id = ?5,
             lost_context = (SELECT lost_context FROM sessions WHERE id = turns.session_id)
         WHERE id = ?1 AND state = 'queued'",
    )?;
    Ok(statement.execute((id, at.0, pgid, start_ticks.cast_signed(), boot_id))? > 0)
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
    let fault = fault.map(serde_json::to_string).transpose();
    let fault = fault.map_err(|error| Error::Other(error.to_string()))?;
    let mut statement = connection.prepare_cached(
        "UPDATE turns SET state = ?2, finished_at = ?3, fault = ?4
         WHERE id = ?1 AND state IN ('queued', 'running')",
    )?;
    if statement.execute((id, state.as_str(), at.0, fault))? > 0 && state == TurnState::Succeeded {
        fallback::end(connection, id)?;
    }
    Ok(())
}

/// Turns that are queued or running, with the groups of the running ones.
///
/// # Errors
/// Those of SQLite.
pub fn pending(connection: &Connection) -> Result<Vec<(Turn, Option<Group>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM turns WHERE state IN ('queued', 'running') ORDER BY queued_at",
    )?;
    let rows = statement.query_map([], |row| {
        let group = match row.get::<_, Option<u32>>("pgid")? {
            None => None,
            Some(pgid) => Some(Group {
                pgid,
                start_ticks: row.get::<_, i64>("start_ticks")?.cast_unsigned(),
                boot_id: row.get("boot_id")?,
            }),
        };
        Ok((turn(row)?, group))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
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
        let event = serde_json::to_string(event).map_err(|e| Error::Other(e.to_string()))?;
        statement.execute((id, event))?;
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

fn turn(row: &Row<'_>) -> rusqlite::Result<Turn> {
    let moment =
        |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<_>>(column)?.map(Timestamp));
    let fault: Option<String> = row.get("fault")?;
    Ok(Turn {
        id: row.get("id")?,
        session_id: row.get("session_id")?,
        state: TurnState::parse(row.get_ref("state")?.as_str()?).unwrap_or_default(),
        queued_at: Timestamp(row.get("queued_at")?),
        started_at: moment("started_at")?,
        finished_at: moment("finished_at")?,
        fault: fault.and_then(|text| serde_json::from_str(&text).ok()),
        lost_context: row.get("lost_context")?,
    })
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
