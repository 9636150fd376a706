//! Rows: stored values read back the same, and a lost race changes nothing.

use proptest::prelude::*;
use sessd_proto::{Facts, Json, Kind, Reason, Session, Status, Timestamp};

use super::super::bindings;
use super::super::import::{self, FoundSession};
use super::super::leases::{self, Lease};
use super::super::sessions::{self, Checked, Outcome};
use super::super::{files, job_runs};
use super::{found, found_with, stored, with_home};

/// Any text, including control characters and NUL.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn moment() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

prop_compose! {
    fn anything()(
        // An empty id means that it is not known yet.
        provider_session_id in text().prop_map(|id| id + "."),
        (scope, location) in (text(), text()),
        (project, launch_dir, cwd, title) in (text(), text(), maybe(), maybe()),
        (model, git_branch, parent_id) in (maybe(), maybe(), maybe()),
        last_prompt in maybe(),
        reason in prop::option::of(prop::sample::select(Reason::ALL)),
        kind in prop::sample::select(Kind::ALL),
        status in prop::sample::select(Status::ALL),
        (created_at, last_activity, at) in (moment(), moment(), moment()),
        expires_at in prop::option::of(moment()),
    ) -> FoundSession {
        let facts = Facts {
            provider_session_id, scope, kind, launch_dir, cwd, title, model, git_branch,
            last_prompt, created_at, last_activity,
        };
        FoundSession {
            id: "id".to_owned(), provider: "p".to_owned(), home_id: 1, facts, location, project,
            status, reason, expires_at, parent_id, at,
            ..FoundSession::default()
        }
    }
}

/// Returns the session that callers see after this one was found.
fn seen(found: &FoundSession) -> Session {
    let found = found.clone();
    Session {
        id: found.id,
        agent: found.provider.clone(),
        provider: found.provider,
        home: "/home".to_owned(),
        provider_session_id: Some(found.facts.provider_session_id),
        project: found.project,
        kind: found.facts.kind,
        launch_dir: found.facts.launch_dir,
        cwd: found.facts.cwd,
        title: found.facts.title,
        model: found.facts.model,
        git_branch: found.facts.git_branch,
        last_prompt: found.facts.last_prompt,
        status: found.status,
        reason: found.reason,
        created_at: found.facts.created_at,
        last_activity: found.facts.last_activity,
        checked_at: Some(found.at),
        expires_at: found.expires_at,
        parent_id: found.parent_id,
        revision: 1,
        metadata: Json(serde_json::json!({})),
        ..Session::default()
    }
}

proptest! {
    #[test]
    fn stored_sessions_read_back_the_same(first in anything(), second in anything()) {
        let (connection, home_id) = with_home();
        let first = FoundSession { home_id, ..first };
        import::upsert(&connection, &first).unwrap();
        let row = stored(&connection, "id");
        prop_assert_eq!(&row.session, &seen(&first));
        prop_assert_eq!((row.home_id, &row.scope, &row.location),
            (home_id, &first.facts.scope, &first.location));

        // Found again with other content: values that are missing now are kept.
        let mut again = FoundSession { id: "another".to_owned(), home_id, ..second };
        again.facts.scope = first.facts.scope.clone();
        again.facts.provider_session_id = first.facts.provider_session_id.clone();
        import::upsert(&connection, &again).unwrap();
        prop_assert_eq!(sessions::count(&connection).unwrap(), 1);
        let (old, new) = (first.facts.clone(), again.facts.clone());
        let merged = FoundSession {
            id: first.id.clone(),
            facts: Facts {
                cwd: new.cwd.or(old.cwd),
                title: new.title.or(old.title),
                model: new.model.or(old.model),
                git_branch: new.git_branch.or(old.git_branch),
                last_prompt: new.last_prompt.or(old.last_prompt),
                ..again.facts.clone()
            },
            // The parent of a fork is known from its start.
            parent_id: first.parent_id.or_else(|| again.parent_id.clone()),
            // A deleted directory keeps the project it was in.
            project: if new.launch_dir == old.launch_dir && again.project == new.launch_dir {
                first.project
            } else {
                again.project.clone()
            },
            ..again.clone()
        };
        let expected = Session { revision: 2, ..seen(&merged) };
        let row = stored(&connection, "id");
        prop_assert_eq!(&row.session, &expected);
        prop_assert_eq!(&row.location, &again.location);
        prop_assert_eq!(sessions::by_seq(&connection, row.seq).unwrap(), Some(row));
    }

    #[test]
    fn stored_stamps_read_back_the_same(
        path in text(), first in any::<(u64, i64, u64)>(), second in any::<(u64, i64, u64)>(),
    ) {
        let (connection, home_id) = with_home();
        files::remember(&connection, home_id, &path, first).unwrap();
        files::remember(&connection, home_id, &path, second).unwrap();
        let known = files::of_home(&connection, home_id).unwrap();
        prop_assert_eq!(known, [(path.clone(), second)].into());
        files::forget(&connection, home_id, &path).unwrap();
        prop_assert!(files::of_home(&connection, home_id).unwrap().is_empty());
    }
}

#[test]
fn an_earlier_binding_changes_nothing() {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    connection.execute("UPDATE bindings SET current = 0", []).unwrap();
    let before = stored(&connection, "id-0001");
    let changed = found_with(home, 1, |facts| facts.title = Some("new".to_owned()));
    import::upsert(&connection, &changed).unwrap();
    assert_eq!(stored(&connection, "id-0001"), before);
    assert_eq!(sessions::count(&connection).unwrap(), 1);
}

#[test]
fn a_stored_reason_of_another_version_is_readable() {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    connection.execute("UPDATE sessions SET reason = 'later'", []).unwrap();
    assert_eq!(stored(&connection, "id-0001").session.reason, Some(Reason::Unrecognized));
}

#[test]
fn a_check_of_an_old_revision_changes_nothing() {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    let row = stored(&connection, "id-0001");
    let checked = Checked {
        seq: row.seq,
        revision: row.session.revision,
        status: Status::Expired,
        reason: Some(Reason::TranscriptMissing),
        at: Timestamp(2_000),
    };
    import::upsert(&connection, &found(home, 1)).unwrap();
    let newer = stored(&connection, "id-0001");
    assert!(newer.session.revision > row.session.revision);
    assert_eq!(sessions::set_checked(&connection, &checked).unwrap(), Outcome::Raced);
    assert_eq!(stored(&connection, "id-0001"), newer);

    let checked = Checked { revision: newer.session.revision, ..checked };
    let outcome = sessions::set_checked(&connection, &checked).unwrap();
    assert_eq!(outcome, Outcome::Changed(Status::Active));
    let Session { status, reason, checked_at, revision, .. } =
        stored(&connection, "id-0001").session;
    assert_eq!((status, reason), (checked.status, checked.reason));
    assert_eq!((checked_at, revision), (Some(checked.at), checked.revision + 1));

    // The same verdict again changes only `checked_at`.
    let again = Checked { revision, at: Timestamp(3_000), ..checked };
    assert_eq!(sessions::set_checked(&connection, &again).unwrap(), Outcome::Confirmed);
    let confirmed = stored(&connection, "id-0001").session;
    assert_eq!((confirmed.checked_at, confirmed.revision), (Some(again.at), revision));
}

#[test]
fn oldest_checks_come_first_and_fresh_ones_are_left_out() {
    let (connection, home) = with_home();
    for (number, at) in [(1, 500), (2, 100), (3, 900), (4, 300)] {
        let at = Timestamp(at);
        import::upsert(&connection, &FoundSession { at, ..found(home, number) }).unwrap();
    }
    let seqs = sessions::oldest_checks(&connection, 900, 2).unwrap();
    let ids = seqs.iter().map(|seq| sessions::by_seq(&connection, *seq).unwrap().unwrap());
    assert_eq!(ids.map(|row| row.session.id).collect::<Vec<_>>(), ["id-0002", "id-0004"]);
}

#[test]
fn a_lease_ends_only_for_its_own_process() {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    let lease = Lease {
        session_id: "id-0001".to_owned(),
        pid: u32::MAX,
        start_ticks: u64::MAX,
        boot_id: "boot".to_owned(),
        kind: sessd_proto::LeaseKind::Interactive,
        since: Timestamp(7),
    };
    leases::put(&connection, &lease).unwrap();
    assert_eq!(leases::of_session(&connection, "id-0001").unwrap(), std::slice::from_ref(&lease));
    leases::end(&connection, &Lease { start_ticks: 1, ..lease.clone() }).unwrap();
    leases::end(&connection, &Lease { pid: 1, ..lease.clone() }).unwrap();
    assert_eq!(leases::all(&connection).unwrap(), std::slice::from_ref(&lease));
    leases::end(&connection, &lease).unwrap();
    assert_eq!(leases::of_session(&connection, "id-0001").unwrap(), []);
    assert!(leases::put(&connection, &Lease { session_id: "none".to_owned(), ..lease }).is_err());
}

#[test]
fn expiry_is_predicted_from_activity_or_from_the_file() {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    let seen = (1, 5_000_000, 1);
    files::remember(&connection, home, "/home/1.jsonl", seen).unwrap();
    let predicted = |age_ms, modified| {
        let rule = (age_ms, modified);
        bindings::predict_expiry(&connection, home, rule, (Timestamp(0), 0)).unwrap();
        let Session { expires_at, revision, .. } = stored(&connection, "id-0001").session;
        (expires_at.map(|at| at.0), revision)
    };
    assert_eq!(predicted(Some(100), false), (Some(101), 2));
    assert_eq!(predicted(Some(100), false), (Some(101), 2), "nothing new, no new revision");
    assert_eq!(predicted(Some(100), true), (Some(105), 3));
    assert_eq!(predicted(None, false), (None, 4));
}

#[test]
fn only_the_newest_runs_of_a_job_are_kept() {
    let (connection, _) = with_home();
    for due in 0..10 {
        let run = job_runs::start(&connection, "j", Timestamp(due), Timestamp(due)).unwrap();
        let result = Json(serde_json::json!({ "run": due }));
        job_runs::finish(&connection, run, Timestamp(due + 1), &result).unwrap();
        job_runs::start(&connection, "other", Timestamp(0), Timestamp(0)).unwrap();
        job_runs::keep_newest(&connection, "j", 3).unwrap();
    }
    let count = |job: &str| -> i64 {
        let sql = "SELECT count(*) FROM job_runs WHERE job = ?1";
        connection.query_row(sql, [job], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("j"), count("other")), (3, 10));
    let last = job_runs::last(&connection, "j").unwrap().unwrap();
    assert_eq!((last.due, last.finished), (Timestamp(9), Some(Timestamp(10))));
    assert_eq!(last.result.0["run"], 9);
}
