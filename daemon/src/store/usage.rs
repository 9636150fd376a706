//! Totals of a session over our own turns: how many succeeded, and the tokens and cost they used.
//!
//! Some providers report the figures of one run, others those of the whole session so far. Only the
//! former may be added up, and only a decoder knows which they are: it names them `tokens_in`,
//! `tokens_out` and `cost_usd` in a `usage` event. A total that nothing was added to stays NULL.
//! Totals are added when the event is stored, so an interrupted turn counts with what it reported.

use rusqlite::{Connection, named_params};
use sessd_proto::{Event, EventType};

use super::Result;

/// Limits of one figure, which keep every sum exact and within its column.
const TOKENS_MAX: i64 = 1 << 40;
const COST_USD_MAX: f64 = 1e6;

/// Counts a turn that has succeeded.
pub(super) fn count_turn(connection: &Connection, turn_id: &str) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET turns = ifnull(turns, 0) + 1
         WHERE id = (SELECT session_id FROM turns WHERE id = ?1)",
    )?;
    statement.execute([turn_id])?;
    Ok(())
}

/// Adds the figures of a `usage` event to the session of its turn; other events add nothing.
pub(super) fn add(connection: &Connection, turn_id: &str, event: &Event) -> Result<()> {
    let data = &event.data.0;
    let tokens = |name: &str| data[name].as_i64().filter(|count| (0..=TOKENS_MAX).contains(count));
    let (tokens_in, tokens_out) = (tokens("tokens_in"), tokens("tokens_out"));
    let cost_usd = data["cost_usd"].as_f64().filter(|cost| (0.0..=COST_USD_MAX).contains(cost));
    if event.kind != EventType::Usage || (tokens_in, tokens_out, cost_usd) == (None, None, None) {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "UPDATE sessions SET
             tokens_in = ifnull(ifnull(tokens_in, 0) + :tokens_in, tokens_in),
             tokens_out = ifnull(ifnull(tokens_out, 0) + :tokens_out, tokens_out),
             cost_usd = ifnull(ifnull(cost_usd, 0) + :cost_usd, cost_usd)
         WHERE id = (SELECT session_id FROM turns WHERE id = :turn_id)",
    )?;
    statement.execute(named_params! {
        ":tokens_in": tokens_in, ":tokens_out": tokens_out, ":cost_usd": cost_usd,
        ":turn_id": turn_id,
    })?;
    Ok(())
}
