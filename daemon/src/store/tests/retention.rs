//! Retention: events and turns are bounded by number and by age.

use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, Timestamp};

use super::super::turns::Asked;
use super::super::{events, turns};
use super::{empty, found, with_home};

#[test]
fn the_newest_events_are_kept() {
    let connection = empty();
    assert_eq!(events::old(&connection, 0, None).unwrap(), (0, 0));
    for number in 1..=10 {
        let at = Timestamp(number * 100);
        events::append(
            &connection,
            at,
            sessd_proto::EventType::Pinned,
            None,
            &serde_json::json!({}),
        )
        .unwrap();
    }
    let old =
        |keep, before: Option<i64>| events::old(&connection, keep, before.map(Timestamp)).unwrap();
    assert_eq!(old(10, None), (0, 0));
    assert_eq!(old(7, None), (3, 3));
    assert_eq!(old(10, Some(500)), (4, 4), "an event at exactly that time is kept");
    assert_eq!(old(9, Some(500)), (4, 4));
    assert_eq!(old(3, Some(500)), (7, 7));
    assert_eq!(old(10, Some(5_000)), (10, 10));
    assert_eq!(events::forget(&connection, 4).unwrap(), 4);
    assert_eq!(events::forget(&connection, 4).unwrap(), 0);
    assert_eq!(old(6, None), (0, 0));
    assert_eq!(old(5, None), (5, 1));
}

#[test]
fn old_turns_are_deleted_with_output_unless_unfinished() {
    let (connection, home) = with_home();
    super::super::import::upsert(&connection, &found(home, 1)).unwrap();
    for number in 1..=4_i64 {
        let id = format!("turn-{number}");
        let turn = Turn { id: id.clone(), session_id: "id-0001".to_owned(), ..Turn::default() };
        turns::queue(&connection, &turn, &Asked::default()).unwrap();
        turns::append_output(&connection, &id, &[Event::default()]).unwrap();
        if number < 4 {
            let at = Timestamp(number * 100);
            turns::finish(&connection, &id, TurnState::Succeeded, at, None).unwrap();
        }
    }
    let old =
        |keep, before: Option<i64>| turns::old(&connection, keep, before.map(Timestamp)).unwrap();
    assert_eq!(old(3, None), [""; 0]);
    assert_eq!(old(2, None), ["turn-1"]);
    assert_eq!(old(9, Some(200)), ["turn-1", "turn-2"]);
    assert_eq!(old(0, Some(0)), ["turn-1", "turn-2", "turn-3"]);
    turns::forget(&connection, "turn-1").unwrap();
    assert_eq!(turns::output(&connection, "turn-1", 0, 1_000).unwrap().0, []);
    assert_eq!(old(2, None), [""; 0]);
}
