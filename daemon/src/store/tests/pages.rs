//! Pages: every list equals a naive sort, uses an index, and has a bounded cost.

use std::cmp::Reverse;

use rusqlite::Connection;
use sessd_proto::session::{ListRequest, Sort};
use sessd_proto::{FaultCode, Kind, Status, Timestamp};

use super::super::bindings;
use super::super::import::{self, FoundSession};
use super::super::indexes;
use super::super::page::{self, EXAMINED_MAX, Walk};
use super::super::sessions::{self, Stored};
use super::super::{Error, Result};
use super::{empty, explain, found, found_with, with_home};

const SESSIONS: i64 = 240;

/// Returns sessions with many equal keys, half of them without an expiry; every seventh is in the
/// trash, every third and every fourth has a tag.
fn varied_sessions() -> Connection {
    let connection = empty();
    for number in 0..SESSIONS {
        let provider = ["p", "q"][(number % 2) as usize];
        let home = bindings::remember_home(&connection, provider, "/home", &Default::default());
        let home = home.unwrap();
        let one_of = |texts: [&str; 3], by: i64| texts[(number / by % 3) as usize].to_owned();
        let row = FoundSession {
            provider: provider.to_owned(),
            project: one_of(["/a", "/b", "/c"], 2),
            status: Status::ALL[(number / 5 % 5) as usize],
            expires_at: (number % 4 < 2).then_some(Timestamp(number * 13 % 4)),
            ..found_with(home, number, |facts| {
                facts.kind = Kind::ALL[(number / 3 % 3) as usize];
                // Equal keys in an order that is not the one of insertion.
                facts.created_at = Timestamp(number * 7 % 5);
                facts.last_activity = Timestamp(number * 11 % 6 - 2);
            })
        };
        import::upsert(&connection, &row).unwrap();
    }
    connection
        .execute_batch(
            "UPDATE sessions SET trashed_at = 1 WHERE seq % 7 = 0;
             UPDATE sessions SET agent = iif(seq % 5 < 2, 'helper', agent);
             INSERT INTO tags SELECT id, 'red', seq, last_activity, created_at, expires_key
                 FROM sessions WHERE seq % 3 = 0;
             INSERT INTO tags SELECT id, 'blue', seq, last_activity, created_at, expires_key
                 FROM sessions WHERE seq % 4 = 0;",
        )
        .unwrap();
    connection
}

/// Returns requests without a filter, with each single filter, and with combinations.
fn requests() -> Vec<ListRequest> {
    let text = |text: &str| Some(text.to_owned());
    let none = ListRequest::default;
    let mut requests = vec![
        none(),
        ListRequest { project: text("/b"), ..none() },
        ListRequest { project: text("/nowhere"), ..none() },
        ListRequest { provider: text("q"), ..none() },
        ListRequest { agent: text("helper"), ..none() },
        ListRequest { status: Some(Status::Archived), ..none() },
        ListRequest { tag: text("red"), ..none() },
        ListRequest { tag: text("no such tag"), ..none() },
        ListRequest { since: Some(Timestamp(1)), ..none() },
    ];
    for kind in Kind::ALL {
        let kind = Some(*kind);
        requests.extend([
            ListRequest { kind, ..none() },
            ListRequest { kind, provider: text("p"), ..none() },
            ListRequest { kind, tag: text("blue"), ..none() },
            ListRequest { kind, since: Some(Timestamp(0)), status: Some(Status::Active), ..none() },
        ]);
    }
    requests.extend([
        ListRequest { project: text("/a"), provider: text("p"), ..none() },
        ListRequest { project: text("/c"), since: Some(Timestamp(2)), ..none() },
        ListRequest { tag: text("red"), agent: text("helper"), ..none() },
        ListRequest { tag: text("red"), since: Some(Timestamp(2)), ..none() },
        ListRequest { agent: text("helper"), status: Some(Status::Invalid), ..none() },
        ListRequest {
            tag: text("blue"),
            project: text("/a"),
            provider: text("p"),
            agent: text("p"),
            status: Some(Status::Active),
            kind: Some(Kind::Interactive),
            since: Some(Timestamp(-1)),
            ..none()
        },
    ]);
    let sorted = |request: ListRequest| {
        Sort::ALL.iter().map(move |sort| ListRequest { sort: *sort, ..request.clone() })
    };
    requests.into_iter().flat_map(sorted).collect()
}

/// Returns the rows that a request selects, without SQL.
fn naive(all: &[Stored], request: &ListRequest) -> Vec<i64> {
    let same = |asked: &Option<String>, value: &str| asked.as_deref().is_none_or(|a| a == value);
    let wanted = |row: &&Stored| {
        let session = &row.session;
        let kind = request.kind.map_or(session.kind != Kind::Subagent, |kind| kind == session.kind);
        kind && session.trashed_at.is_none()
            && same(&request.project, &session.project)
            && same(&request.provider, &session.provider)
            && same(&request.agent, &session.agent)
            && request.status.is_none_or(|status| status == session.status)
            && request.tag.as_ref().is_none_or(|tag| session.tags.contains(tag))
            && request.since.is_none_or(|since| session.last_activity >= since)
    };
    let mut rows: Vec<_> = all.iter().filter(wanted).collect();
    let session = |row: &&Stored| row.session.clone();
    match request.sort {
        Sort::Activity => rows.sort_by_key(|row| Reverse((session(row).last_activity, row.seq))),
        Sort::Created => rows.sort_by_key(|row| Reverse((session(row).created_at, row.seq))),
        Sort::Expires => rows.sort_by_key(|row| {
            let at = session(row).expires_at;
            (at.is_none(), at, row.seq)
        }),
    }
    rows.into_iter().map(|row| row.seq).collect()
}

fn walk(connection: &Connection, request: &ListRequest, limit: u32) -> Vec<i64> {
    let mut request = ListRequest { limit, ..request.clone() };
    let mut seqs = Vec::new();
    loop {
        let (rows, next) = page::list(connection, &request).unwrap();
        assert!(rows.len() <= limit as usize);
        seqs.extend(rows.iter().map(|row| row.seq));
        assert!(seqs.len() <= SESSIONS as usize, "pages repeat: {request:?}");
        match next {
            None => return seqs,
            after => request.after = after,
        }
    }
}

#[test]
fn all_pages_together_are_the_sorted_list() {
    let connection = varied_sessions();
    let all: Vec<_> =
        (1..=SESSIONS).map(|seq| sessions::by_seq(&connection, seq).unwrap().unwrap()).collect();
    for request in requests() {
        let expected = naive(&all, &request);
        for limit in [1, 7, 500] {
            let walked = walk(&connection, &request, limit);
            assert_eq!(walked, expected, "limit {limit} of {request:?}");
        }
    }
}

#[test]
fn every_page_is_a_walk_along_one_index() {
    let connection = varied_sessions();
    for mut request in requests() {
        for after in [None, Some(format!("{}.1.5", request.sort))] {
            request.after = after;
            let Some(walk) = Walk::plan(&connection, &request).unwrap() else { continue };
            let plan = explain(&connection, &walk.sql, &walk.parameters);
            assert!(!plan.contains("TEMP B-TREE"), "{request:?} sorts:\n{plan}");
            assert!(plan.contains("INDEX list_"), "{request:?} scans:\n{plan}");
            assert!(plan.contains(&request.sort.to_string()), "{request:?}:\n{plan}");
        }
    }
}

#[test]
fn a_cursor_starts_inside_the_index() {
    let connection = varied_sessions();
    for sort in Sort::ALL {
        let after = Some(format!("{sort}.1.5"));
        let request = ListRequest { sort: *sort, after, ..ListRequest::default() };
        let walk = Walk::plan(&connection, &request).unwrap().unwrap();
        let plan = explain(&connection, &walk.sql, &walk.parameters);
        assert!(plan.starts_with("SEARCH"), "rows before the cursor are read:\n{plan}");
    }
}

/// Returns far more sessions than one call may examine; the rare ones are the oldest.
fn many_sessions(rare: i64) -> Connection {
    let (connection, _) = with_home();
    connection
        .execute_batch(&format!(
            "INSERT INTO projects (root) VALUES ('/w');
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
             INSERT INTO sessions (id, project_id, provider, agent, kind, launch_dir, status,
                 created_at, last_activity)
             SELECT i, 1, 'p', 'p', 'headless', '/w', iif(i <= {rare}, 'invalid', 'active'), i, i
             FROM n"
        ))
        .unwrap();
    connection
}

#[test]
fn combined_filters_examine_a_bounded_number_of_rows() {
    let connection = many_sessions(3);
    let mut request = ListRequest {
        provider: Some("p".to_owned()),
        status: Some(Status::Invalid),
        ..ListRequest::default()
    };
    let mut found = Vec::new();
    for expected in [0, 0, 3] {
        let (rows, next) = page::list(&connection, &request).unwrap();
        assert_eq!(rows.len(), expected, "a call examines {EXAMINED_MAX} rows at most");
        assert_eq!(next.is_some(), expected == 0, "a short page has a cursor to go on");
        found.extend(rows.into_iter().map(|row| row.seq));
        request.after = next;
    }
    assert_eq!(found, [3, 2, 1]);
}

#[test]
fn a_tagged_list_follows_its_sessions() {
    let (connection, home) = with_home();
    for number in [1, 2] {
        import::upsert(&connection, &found(home, number)).unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO tags SELECT id, 't', seq, last_activity, created_at, expires_key
             FROM sessions",
        )
        .unwrap();
    let order = |sort| {
        let tag = Some("t".to_owned());
        let request = ListRequest { tag, sort, ..ListRequest::default() };
        let (rows, _) = page::list(&connection, &request).unwrap();
        rows.into_iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!((order(Sort::Activity), order(Sort::Expires)), (vec![2, 1], vec![1, 2]));
    let newer = found_with(home, 1, |facts| {
        facts.last_activity = Timestamp(9);
        facts.created_at = Timestamp(9);
    });
    import::upsert(&connection, &newer).unwrap();
    assert_eq!((order(Sort::Activity), order(Sort::Created)), (vec![1, 2], vec![1, 2]));
    let expires_at = Some(Timestamp(1));
    import::upsert(&connection, &FoundSession { expires_at, ..found(home, 2) }).unwrap();
    assert_eq!(order(Sort::Expires), [2, 1]);
}

#[test]
fn invalid_limits_and_cursors_are_refused() {
    let connection = varied_sessions();
    let code = |request: ListRequest| -> Result<()> { page::list(&connection, &request).map(drop) };
    let limit = ListRequest { limit: 501, ..ListRequest::default() };
    let mut refused = vec![limit];
    for after in
        ["", "x", "activity", "activity.1", "activity.x.1", "created.1.1", "activity.1.1.1"]
    {
        let after = Some(after.to_owned());
        refused.push(ListRequest { after, ..ListRequest::default() });
    }
    for request in refused {
        match code(request.clone()) {
            Err(Error::Fault(fault)) => {
                assert_eq!(fault.code, FaultCode::Usage, "{request:?}");
                assert!(fault.hint.is_some());
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert_eq!(page::limit(0).unwrap(), page::LIMIT);
}

#[test]
fn lists_work_without_the_deferred_indexes() {
    let connection = varied_sessions();
    indexes::drop_deferred(&connection).unwrap();
    let created = ListRequest { sort: Sort::Created, ..ListRequest::default() };
    let walked = Walk::plan(&connection, &created).unwrap().unwrap();
    assert!(connection.prepare(&walked.sql).is_err(), "its index is deferred");
    let all: Vec<_> =
        (1..=SESSIONS).map(|seq| sessions::by_seq(&connection, seq).unwrap().unwrap()).collect();
    for request in requests() {
        for limit in [7, 500] {
            let walked = walk(&connection, &request, limit);
            assert_eq!(walked, naive(&all, &request), "limit {limit} of {request:?}");
        }
    }
    let checks = |c: &Connection| sessions::oldest_checks(c, i64::MAX, 10).unwrap();
    assert_eq!(checks(&connection), checks(&varied_sessions()));
}
