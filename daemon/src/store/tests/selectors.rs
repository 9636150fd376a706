//! Selectors: an exact match wins, and a prefix has at least four characters.

use sessd_proto::Facts;

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::import::{self, FoundSession};
use super::super::selector::{BY_ID, BY_PROVIDER_ID, PREFIX_MIN, resolve};
use super::super::sessions;
use super::{explain, found_with, stored, with_home};

fn meant(connection: &Connection, selector: &str) -> Vec<String> {
    let rows = resolve(connection, selector).unwrap();
    let row = |seq| sessions::by_seq(connection, seq).unwrap().unwrap().session.id;
    rows.into_iter().map(row).collect()
}

fn with_sessions(ids: &[(&str, &str)]) -> Connection {
    let (connection, home) = with_home();
    for (id, theirs) in ids {
        let (id, provider_session_id) = ((*id).to_owned(), (*theirs).to_owned());
        let facts = |facts: &mut Facts| facts.provider_session_id = provider_session_id;
        let row = FoundSession { id, ..found_with(home, 1, facts) };
        import::upsert(&connection, &row).unwrap();
    }
    connection
}

#[test]
fn an_exact_match_wins_over_every_prefix() {
    let connection =
        with_sessions(&[("abcd", "t1"), ("abcdef", "t2"), ("abcdeg", "t3"), ("x", "abcdef1")]);
    assert_eq!(meant(&connection, "abcd"), ["abcd"]);
    assert_eq!(meant(&connection, "abcdef"), ["abcdef"], "exact, though a provider's id goes on");
    assert_eq!(meant(&connection, "x"), ["x"], "an exact id may be short");
    assert_eq!(meant(&connection, "t3"), ["abcdeg"]);
}

#[test]
fn a_prefix_has_four_characters_and_may_mean_several() {
    let connection = with_sessions(&[("abcd1", "wxyz1"), ("abcd2", "wxyz2"), ("efgh", "ABCD")]);
    assert_eq!(meant(&connection, "abc"), [""; 0]);
    assert_eq!(meant(&connection, "wxyz1"), ["abcd1"]);
    assert_eq!(meant(&connection, "abcd"), ["abcd1", "abcd2"]);
    assert_eq!(meant(&connection, "wxyz"), ["abcd1", "abcd2"]);
    assert_eq!(meant(&connection, "ABCD"), ["efgh"], "letters have their case");
    assert_eq!(meant(&connection, "%bcd"), [""; 0], "nothing is a wildcard");
    assert_eq!(meant(&connection, "abcd_"), [""; 0]);
}

#[test]
fn a_session_with_two_matching_ids_is_not_ambiguous() {
    let connection = with_sessions(&[("abcd-ours", "abcd-theirs")]);
    assert_eq!(meant(&connection, "abcd"), ["abcd-ours"]);
}

#[test]
fn a_key_is_looked_up_as_a_whole() {
    let connection = with_sessions(&[("abcd", "t1"), ("@key", "t2")]);
    connection.execute("INSERT INTO keys VALUES ('@bot:42', 'abcd')", []).unwrap();
    assert_eq!(meant(&connection, "@bot:42"), ["abcd"]);
    assert_eq!(meant(&connection, "@bot:4"), [""; 0]);
    assert_eq!(meant(&connection, "@key"), [""; 0], "a key is not an id");
    assert_eq!(stored(&connection, "abcd").session.keys, ["@bot:42"]);
}

#[test]
fn an_earlier_binding_selects_nothing() {
    let connection = with_sessions(&[("abcd", "earlier")]);
    connection.execute("UPDATE bindings SET current = 0", []).unwrap();
    assert_eq!(meant(&connection, "earlier"), [""; 0]);
    assert_eq!(meant(&connection, "earl"), [""; 0]);
}

#[test]
fn a_prefix_is_a_walk_along_an_index() {
    let connection = with_sessions(&[]);
    for sql in [BY_ID, BY_PROVIDER_ID] {
        let plan = explain(&connection, sql, &["a".to_owned().into(), "b".to_owned().into()]);
        assert!(plan.contains("INDEX") && !plan.contains("SCAN"), "{plan}");
    }
}

proptest! {
    #[test]
    fn every_long_enough_prefix_finds_its_session(id in "\\PC{4,20}", length in 4..20usize) {
        let connection = with_sessions(&[(&id, "theirs")]);
        let prefix: String = id.chars().take(length.max(PREFIX_MIN)).collect();
        if !prefix.starts_with('@') {
            prop_assert_eq!(meant(&connection, &prefix), [id]);
        }
    }
}
