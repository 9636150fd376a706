//! Judges the messages of a session. The CLI reads all of them, refuses a session with a message or
//! a part that is not JSON, and begins again where none has a part that it sends. Knows neither
//! homes nor processes.

use rusqlite::Connection;
use sessd_proto::Reason;

use super::rows::Row;
use crate::providers::Verdict;

/// Last rows that are judged when a sweep reads a session.
pub(super) const SOME: u32 = 100;

/// Last rows that are judged by a check, which comes before every resume and turn.
pub(super) const ALL: u32 = 100_000;

/// A longer message or part is not looked into.
const DATA_BYTES_MAX: usize = 1 << 20;

/// The kinds of parts that the CLI keeps for itself.
const ASIDE: &str = "'step-start', 'step-finish', 'snapshot', 'patch'";

/// Returns the verdict on a session, by so many of its last messages and parts.
pub(super) fn judge(connection: &Connection, row: &Row, limit: u32) -> rusqlite::Result<Verdict> {
    let verdict = row.judge();
    if verdict != Verdict::ACTIVE && verdict != Verdict::of(Reason::ArchivedByProvider) {
        return Ok(verdict);
    }
    let is_true = |sql: &str| -> rusqlite::Result<bool> {
        connection.prepare_cached(sql)?.query_row((&row.id, limit), |row| row.get(0))
    };
    // Only ids are sorted, not what may be long.
    let messages = "SELECT data FROM message WHERE id IN (
        SELECT id FROM message WHERE session_id = ?1 ORDER BY id DESC LIMIT ?2)";
    let parts = "SELECT data FROM part WHERE id IN (
        SELECT p.id FROM message m JOIN part p ON p.message_id = m.id
        WHERE m.session_id = ?1 ORDER BY p.id DESC LIMIT ?2)";
    let is_long = format!("octet_length(data) > {DATA_BYTES_MAX}");
    let is_json = &*format!("typeof(data) = 'text' AND ({is_long} OR json_valid(data))");
    let has_role = "json_extract(data, '$.role') IN ('user', 'assistant')";
    let is_message = format!(
        "CASE WHEN {is_long} THEN TRUE WHEN {is_json} THEN {has_role} IS TRUE ELSE FALSE END"
    );
    let is_odd = |rows: &str, rule: &str| {
        is_true(&format!("SELECT EXISTS (SELECT 1 FROM ({rows}) WHERE NOT ({rule}))"))
    };
    if is_odd(messages, &is_message)? || is_odd(parts, is_json)? {
        return Ok(Verdict::of(Reason::RecordBroken));
    }
    let is_sent = format!("{is_long} OR json_extract(data, '$.type') NOT IN ({ASIDE})");
    if !is_true(&format!("SELECT EXISTS (SELECT 1 FROM ({parts}) WHERE {is_sent})"))? {
        return Ok(Verdict::EMPTY);
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::opencode::rows;

    #[test]
    fn every_message_must_be_json_and_one_part_must_be_sent() {
        const BROKEN: Verdict = Verdict::of(Reason::RecordBroken);
        for (change, verdict) in [
            ("", Verdict::ACTIVE),
            ("UPDATE message SET data = 'garbage'", BROKEN),
            ("UPDATE message SET data = '{}'", BROKEN),
            ("UPDATE message SET data = 'null'", BROKEN),
            ("UPDATE message SET data = CAST(data AS BLOB)", BROKEN),
            ("UPDATE part SET data = substr(data, 2) WHERE id = 'p1'", BROKEN),
            ("UPDATE part SET data = '{}'", Verdict::EMPTY),
            ("DELETE FROM part WHERE id = 'p2'", Verdict::EMPTY),
            ("DELETE FROM part", Verdict::EMPTY),
            ("DELETE FROM message", Verdict::EMPTY),
            ("UPDATE session SET model = 'garbage'", BROKEN),
            ("UPDATE session SET time_created = -1", BROKEN),
            ("UPDATE session SET id = 'odd'", Verdict::MALFORMED_ID),
            ("CREATE TABLE session_v2 AS SELECT 1", Verdict::of(Reason::NewerFormat)),
        ] {
            let connection = Connection::open_in_memory().unwrap();
            let tables = "CREATE TABLE session
                    (id, directory, time_created, time_updated, title, model);
                CREATE TABLE message (id, session_id, time_created, data);
                CREATE TABLE part (id, message_id, data);
                INSERT INTO session VALUES ('ses_1', '/', 1, 1, 't', NULL);
                INSERT INTO message VALUES ('m1', 'ses_1', 1, '{\"role\":\"user\"}');
                INSERT INTO part VALUES ('p1', 'm1', '{\"type\":\"step-start\"}'),
                    ('p2', 'm1', '{\"type\":\"text\",\"text\":\"hi\"}');";
            connection.execute_batch(tables).unwrap();
            connection.execute_batch(change).unwrap();
            let id = rows::all(&connection).unwrap().remove(0).id;
            let row = rows::by_id(&connection, &id).unwrap().unwrap();
            for limit in [SOME, ALL] {
                assert_eq!(judge(&connection, &row, limit).unwrap(), verdict, "{change}");
            }
        }
    }
}
