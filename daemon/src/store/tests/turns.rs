//! Turns: accepted once, ended once, and their output comes back whole in pages.

use proptest::prelude::*;
use rusqlite::Connection;
use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, Fault, FaultCode, Json, Timestamp};

use super::super::bindings;
use super::super::turns::{self, Group};
use super::{found, with_home};

fn with_turn() -> (Connection, Turn) {
    let (connection, home) = with_home();
    bindings::absorb(&connection, &found(home, 1)).unwrap();
    let turn = Turn {
        id: "turn".to_owned(),
        session_id: "id-0001".to_owned(),
        queued_at: Timestamp(1),
        ..Turn::default()
    };
    turns::queue(&connection, &turn, "hello", "p").unwrap();
    (connection, turn)
}

fn event(text: &str) -> Event {
    Event { kind: "text".to_owned(), text: Some(text.to_owned()), ..Event::default() }
}

#[test]
fn a_turn_is_accepted_once() {
    let (connection, turn) = with_turn();
    let again = Turn { queued_at: Timestamp(9), ..turn.clone() };
    turns::queue(&connection, &again, "something else", "p").unwrap();
    assert_eq!(turns::by_id(&connection, "turn").unwrap(), Some(turn));
    assert_eq!(turns::pending(&connection).unwrap().len(), 1);
}

#[test]
fn a_turn_ends_once() {
    let (connection, _) = with_turn();
    let group = Group { pgid: 7, start_ticks: u64::MAX, boot_id: "boot".to_owned() };
    turns::run(&connection, "turn", Timestamp(2), &group).unwrap();
    assert_eq!(turns::pending(&connection).unwrap()[0].1, Some(group));
    let fault = Fault::new(FaultCode::ProviderFailed, "no").hint("again");
    let interrupted = TurnState::Interrupted;
    turns::finish(&connection, "turn", interrupted, Timestamp(3), Some(&fault)).unwrap();
    turns::finish(&connection, "turn", TurnState::Succeeded, Timestamp(4), None).unwrap();
    let turn = turns::by_id(&connection, "turn").unwrap().unwrap();
    assert_eq!((turn.state, turn.fault), (interrupted, Some(fault)));
    assert_eq!((turn.started_at, turn.finished_at), (Some(Timestamp(2)), Some(Timestamp(3))));
    assert!(turns::pending(&connection).unwrap().is_empty());
}

#[test]
fn a_session_takes_its_turns_and_their_output_with_it() {
    let (connection, _) = with_turn();
    turns::append_output(&connection, "turn", &[event("a")]).unwrap();
    connection.execute("DELETE FROM sessions", []).unwrap();
    assert_eq!(turns::by_id(&connection, "turn").unwrap(), None);
    assert!(turns::output(&connection, "turn", 0, 100).unwrap().0.is_empty());
}

proptest! {
    #[test]
    fn pages_of_output_together_are_the_output(
        texts in prop::collection::vec("\\PC{0,40}", 0..20),
        batch in 1..5usize,
        bytes_max in 1..400usize,
    ) {
        let (connection, _) = with_turn();
        let events: Vec<_> = texts.iter().map(|text| event(text)).collect();
        for events in events.chunks(batch) {
            turns::append_output(&connection, "turn", events).unwrap();
        }
        let (mut read, mut after) = (Vec::new(), 0);
        loop {
            let (page, more) = turns::output(&connection, "turn", after, bytes_max).unwrap();
            let bytes: usize = page
                .iter()
                .map(|event| serde_json::to_string(event).unwrap().len())
                .sum();
            // The bound is on what is stored, where `seq` is 0; it may have grown to two digits.
            prop_assert!(page.len() <= 1 || bytes <= bytes_max + page.len());
            prop_assert!(!more || !page.is_empty());
            after = page.last().map_or(after, |event| event.seq);
            read.extend(page);
            if !more {
                break;
            }
        }
        let numbered = (1..).zip(&events).map(|(seq, event)| Event {
            seq, data: Json::default(), ..event.clone()
        });
        prop_assert_eq!(read, numbered.collect::<Vec<_>>());
    }
}
