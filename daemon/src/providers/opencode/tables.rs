//! The tables that a newer version adds. It moves its sessions to tables of new names, one way, and
//! leaves the old ones as they were: what they hold is no longer true. Knows no rows.

use rusqlite::Connection;

/// The beginnings of the names of tables that hold conversations.
const STEMS: [&str; 3] = ["session", "message", "part"];

/// The tables of those names that the versions that were tested have, in alphabetical order.
const KNOWN: [&str; 7] = [
    "message",
    "part",
    "session",
    "session_context_epoch",
    "session_input",
    "session_message",
    "session_share",
];

/// True if conversations are in tables that are not known. A table without a row is only prepared.
pub(super) fn are_superseded(connection: &Connection) -> rusqlite::Result<bool> {
    let mut names =
        connection.prepare_cached("SELECT name FROM sqlite_master WHERE type = 'table'")?;
    let names = names.query_map([], |row| row.get(0))?;
    for name in names.collect::<rusqlite::Result<Vec<String>>>()? {
        let is_of_conversations = STEMS.iter().any(|stem| name.starts_with(stem));
        if !is_of_conversations || KNOWN.binary_search(&&*name).is_ok() {
            continue;
        }
        let quoted = name.replace('"', "\"\"");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{quoted}\")");
        if connection.query_row(&sql, [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_tables_of_conversations_with_rows_supersede() {
        let connection = Connection::open_in_memory().unwrap();
        for (sql, superseded) in [
            ("CREATE TABLE session (id); INSERT INTO session VALUES (1)", false),
            ("CREATE TABLE session_input (id); INSERT INTO session_input VALUES (1)", false),
            ("CREATE TABLE mood (id); INSERT INTO mood VALUES (1)", false),
            ("CREATE TABLE \"session_\"\"v2\" (id)", false),
            ("INSERT INTO \"session_\"\"v2\" VALUES (1)", true),
        ] {
            connection.execute_batch(sql).unwrap();
            assert_eq!(are_superseded(&connection).unwrap(), superseded, "{sql}");
        }
    }
}
