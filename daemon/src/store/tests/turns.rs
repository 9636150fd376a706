//! Turns: accepted once, ended once, and pages of output together are the whole output.

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use sessd_proto::turn::{Turn, TurnState};
use sessd_proto::{Event, EventType, Fault, FaultCode, Json, Session, Timestamp};

use super::super::import;
use super::super::turns::{self, Asked, Filter, Group};
use super::{found, stored, with_home};

fn with_turn() -> (Connection, Turn) {
    let (connection, home) = with_home();
    import::upsert(&connection, &found(home, 1)).unwrap();
    let turn = Turn {
        id: "turn".to_owned(),
        session_id: "id-0001".to_owned(),
        agent: "p".to_owned(),
        prompt: "hello you".to_owned(),
        queued_at: Timestamp(1),
        ..Turn::default()
    };
    turns::queue(&connection, &turn, &asked("hello\n you")).unwrap();
    (connection, turn)
}

fn asked(prompt: &str) -> Asked {
    let prompt = prompt.to_owned();
    let (raw, wait, fallback) = (true, true, true);
    Asked { prompt, timeout_ms: Some(7), raw, wait, fallback, needs_environment: false }
}

fn event(text: &str) -> Event {
    Event { kind: EventType::Text, text: Some(text.to_owned()), ..Event::default() }
}

#[test]
fn a_turn_is_accepted_once() {
    let (connection, turn) = with_turn();
    let again = Turn { queued_at: Timestamp(9), ..turn.clone() };
    turns::queue(&connection, &again, &asked("something else")).unwrap();
    assert_eq!(turns::by_id(&connection, "turn").unwrap(), Some(turn.clone()));
    let waiting = [(turn.id, turn.session_id)];
    assert_eq!(turns::waiting(&connection).unwrap(), waiting);
    assert!(turns::running(&connection).unwrap().is_empty());
    assert_eq!(turns::asked(&connection, "turn").unwrap(), Some(asked("hello\n you")));
    assert_eq!(turns::asked(&connection, "none").unwrap(), None);
}

#[test]
fn a_turn_ends_once() {
    let (connection, _) = with_turn();
    let group = Group { pgid: 7, start_ticks: u64::MAX, boot_id: "boot".to_owned() };
    assert!(!turns::set_group(&connection, "turn", &group).unwrap(), "before it was started");
    assert!(turns::start(&connection, "turn", Timestamp(2)).unwrap());
    assert_eq!(turns::running(&connection).unwrap(), [("turn".to_owned(), None)]);
    assert!(!turns::start(&connection, "turn", Timestamp(2)).unwrap(), "started twice");
    assert!(turns::is_running(&connection, "id-0001").unwrap());
    assert_eq!(turns::count(&connection).unwrap(), (0, 1));
    assert!(turns::set_group(&connection, "turn", &group).unwrap());
    let running = [("turn".to_owned(), Some(group))];
    assert_eq!(turns::running(&connection).unwrap(), running);
    let fault = Fault::new(FaultCode::ProviderFailed, "no").hint("again");
    let interrupted = TurnState::Interrupted;
    turns::finish(&connection, "turn", interrupted, Timestamp(3), Some(&fault)).unwrap();
    turns::finish(&connection, "turn", TurnState::Succeeded, Timestamp(4), None).unwrap();
    let turn = turns::by_id(&connection, "turn").unwrap().unwrap();
    assert_eq!((turn.state, turn.fault), (interrupted, Some(fault)));
    assert_eq!((turn.started_at, turn.finished_at), (Some(Timestamp(2)), Some(Timestamp(3))));
    assert!(turns::running(&connection).unwrap().is_empty());
}

#[test]
fn turns_lost_in_a_restart_are_interrupted() {
    let (connection, turn) = with_turn();
    for (number, needs_environment) in [true, false, true, false].into_iter().enumerate() {
        let more = Turn { id: format!("more-{number}"), ..turn.clone() };
        let asked = Asked { needs_environment, ..asked("more") };
        turns::queue(&connection, &more, &asked).unwrap();
    }
    turns::start(&connection, "turn", Timestamp(2)).unwrap();
    turns::start(&connection, "more-0", Timestamp(2)).unwrap();
    let [running, waiting] = ["ran", "waited"].map(|it| Fault::new(FaultCode::Interrupted, it));
    turns::interrupt(&connection, Timestamp(3), &running, &waiting).unwrap();
    turns::interrupt(&connection, Timestamp(4), &waiting, &running).unwrap();
    let became = |id: &str| {
        let turn = turns::by_id(&connection, id).unwrap().unwrap();
        (turn.state, turn.finished_at, turn.fault)
    };
    let ended = |fault: &Fault| (TurnState::Interrupted, Some(Timestamp(3)), Some(fault.clone()));
    assert_eq!([became("turn"), became("more-0")], [ended(&running), ended(&running)]);
    assert_eq!(became("more-2"), ended(&waiting));
    let left = turns::waiting(&connection).unwrap();
    assert_eq!(left.iter().map(|(id, _)| &**id).collect::<Vec<_>>(), ["more-1", "more-3"]);
}

#[test]
fn pages_of_turns_cover_all_turns_newest_first() {
    let (connection, turn) = with_turn();
    import::upsert(&connection, &found(1, 2)).unwrap();
    for number in 1..=5 {
        let session_id = format!("id-000{}", 1 + number % 2);
        let more = Turn { id: format!("more-{number}"), session_id, ..turn.clone() };
        turns::queue(&connection, &more, &asked("more")).unwrap();
    }
    turns::start(&connection, "more-3", Timestamp(2)).unwrap();
    let ids = |filter: &Filter| -> Vec<String> {
        let (mut ids, mut filter) = (Vec::new(), filter.clone());
        loop {
            let (page, next) = turns::page(&connection, &filter).unwrap();
            ids.extend(page.into_iter().map(|turn| turn.id));
            filter.before = next;
            if next.is_none() {
                return ids;
            }
        }
    };
    let all = Filter { limit: 2, ..Filter::default() };
    assert_eq!(ids(&all), ["more-5", "more-4", "more-3", "more-2", "more-1", "turn"]);
    let first = Filter { session_id: Some("id-0001".to_owned()), ..all.clone() };
    assert_eq!(ids(&first), ["more-4", "more-2", "turn"]);
    let running = Filter { state: Some(TurnState::Running), ..all.clone() };
    assert_eq!(ids(&running), ["more-3"]);
    assert_eq!(ids(&Filter { session_id: first.session_id, ..running }), [""; 0]);
    let found = |text| turns::find(&connection, text).unwrap().len();
    assert_eq!([found("more-4"), found("more"), found("mor"), found("none")], [1, 5, 0, 0]);
}

#[test]
fn deleting_a_session_deletes_its_turns_and_output() {
    let (connection, _) = with_turn();
    turns::append_output(&connection, "turn", &[event("a")]).unwrap();
    connection.execute("DELETE FROM sessions", []).unwrap();
    assert_eq!(turns::by_id(&connection, "turn").unwrap(), None);
    assert!(turns::output(&connection, "turn", 0, 100).unwrap().0.is_empty());
}

#[test]
fn a_stored_event_of_an_unknown_type_is_readable() {
    let (connection, _) = with_turn();
    turns::append_output(&connection, "turn", &[event("a")]).unwrap();
    let other = "UPDATE turn_output SET event = json_set(event, '$.type', 'later')";
    assert_eq!(connection.execute(other, []).unwrap(), 1);
    let (events, _) = turns::output(&connection, "turn", 0, 100).unwrap();
    assert_eq!(events[0].kind, EventType::Unrecognized);
    assert_eq!(events[0].text.as_deref(), Some("a"));
}

#[test]
fn a_session_adds_up_its_succeeded_turns_and_their_usage() {
    let (connection, turn) = with_turn();
    let usage = |data| Event { kind: EventType::Usage, data: Json(data), ..Event::default() };
    let totals = || {
        let Session { turns, tokens_in, tokens_out, cost_usd, .. } =
            stored(&connection, "id-0001").session;
        (turns, tokens_in, tokens_out, cost_usd)
    };
    let whole_session = usage(json!({ "input_tokens": 7, "output_tokens": 7 }));
    turns::append_output(&connection, "turn", &[whole_session, event("a")]).unwrap();
    assert_eq!(totals(), (None, None, None, None), "no figure of this turn alone");
    let step = usage(json!({ "tokens_in": 10, "tokens_out": 2 }));
    turns::append_output(&connection, "turn", &[step.clone(), step]).unwrap();
    turns::finish(&connection, "turn", TurnState::Succeeded, Timestamp(3), None).unwrap();
    turns::finish(&connection, "turn", TurnState::Succeeded, Timestamp(3), None).unwrap();
    assert_eq!(totals(), (Some(1), Some(20), Some(4), None));

    turns::queue(&connection, &Turn { id: "more".to_owned(), ..turn }, &asked("more")).unwrap();
    let hostile = json!({ "tokens_in": -1, "tokens_out": u64::MAX, "cost_usd": "free" });
    let priced = json!({ "tokens_in": 5, "tokens_out": 1, "cost_usd": 0.25 });
    turns::append_output(&connection, "more", &[usage(hostile), usage(priced)]).unwrap();
    turns::finish(&connection, "more", TurnState::Failed, Timestamp(4), None).unwrap();
    assert_eq!(totals(), (Some(1), Some(25), Some(5), Some(0.25)), "it failed, but was used");
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
