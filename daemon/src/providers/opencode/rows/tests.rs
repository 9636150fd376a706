//! Odd rows of the family's databases.

use super::*;

#[test]
fn odd_row_hides_no_other_and_is_not_taken_for_gone() {
    let connection = Connection::open_in_memory().unwrap();
    let tables = "CREATE TABLE session (id, directory, time_created, time_updated, title);
        CREATE TABLE message (id, session_id, time_created, data);
        CREATE TABLE part (id, message_id, data);
        INSERT INTO message SELECT column1, column1, 1, column2
            FROM (VALUES ('ses_well', '{\"role\":\"user\"}'), ('ses_null', '{}'),
                ('ses_real', '{}'), ('ses_blob', x'ff'));
        INSERT INTO part VALUES ('p', 'ses_well', '{\"type\":\"text\",\"text\":\"hi\"}');
        INSERT INTO session VALUES ('ses_null', NULL, 1, 1, 't'),
            ('ses_real', '/w', 1.5, 1, 't'), ('ses_blob', '/w', 1, 1, 't'),
            ('ses_well', '/w', 1, 1, 't'), (x'ff', '/w', 1, 1, 't');";
    connection.execute_batch(tables).unwrap();
    let ids: Vec<_> = all(&connection).unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["ses_null", "ses_real", "ses_blob", "ses_well"]);
    let all = ["ses_null", "ses_real", "ses_blob", "ses_well", "ses_gone"];
    let found = found(&connection, &all).unwrap();
    let seen = found.into_iter().map(|it| it.map(|it| (it.facts.title, it.verdict)));
    let unreadable = || Some((None, Verdict::UNREADABLE));
    let title = Some("t".to_owned());
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            unreadable(),
            unreadable(),
            Some((title.clone(), Verdict::of(Reason::RecordBroken))),
            Some((title, Verdict::ACTIVE)),
            None
        ]
    );
    let checked = ["ses_null", "ses_real", "ses_gone"].map(|id| check(&connection, id).unwrap());
    assert_eq!(checked, [Some(Verdict::UNREADABLE), Some(Verdict::UNREADABLE), None]);
}
