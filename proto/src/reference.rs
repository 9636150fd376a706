//! The closed vocabularies as tables for people: `sessctl help TOPIC` and `docs/reference.md`
//! print them. Holds no texts of its own but titles; words and meanings come from the enums.

use serde::Serialize;

use crate::cleanup::ActionKind;
use crate::doctor::Level;
use crate::provider::HomeState;
use crate::turn::{Fallback, TurnState};
use crate::{EventType, FaultCode, Kind, LeaseKind, LiveState, Reason, Status, TrashReason};

/// A help topic: some vocabularies that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Topic {
    /// The word that selects it in `sessctl help`.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Its vocabularies.
    pub tables: Vec<Table>,
}

/// One vocabulary, or a part of one.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its heading.
    pub title: &'static str,
    /// General description.
    pub about: &'static str,
    /// Heading of the entries' notes, e.g. `status`; empty if they have none.
    pub note: &'static str,
    /// Its words, in the order of declaration.
    pub entries: Vec<Entry>,
}

/// One word of a vocabulary.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The spelling in JSON and on the command line.
    pub word: &'static str,
    /// The meaning, in full sentences.
    pub meaning: &'static str,
    /// More about it; may be empty.
    pub note: String,
}

/// Builds a table from a vocabulary.
macro_rules! table {
    ($title:literal, $type:ty) => {
        Table {
            title: $title,
            about: <$type>::ABOUT,
            note: "",
            entries: <$type>::ALL
                .iter()
                .map(|it| Entry { word: it.as_str(), meaning: it.meaning(), note: String::new() })
                .collect(),
        }
    };
}

/// Returns every help topic.
#[must_use]
pub fn topics() -> Vec<Topic> {
    let topic = |name, title, tables| Topic { name, title, tables };
    vec![
        topic("events", "Events", vec![events_of_turns(), events_of_registry()]),
        topic("reasons", "Reasons", vec![reasons(), table!("Trash and cleanup", TrashReason)]),
        topic("faults", "Faults", vec![faults()]),
        topic(
            "states",
            "States",
            vec![
                table!("Status of a session", Status),
                table!("Live state of a session", LiveState),
                table!("Kind of a session", Kind),
                table!("State of a turn", TurnState),
                table!("Fallback of a prompt", Fallback),
                table!("Kind of a lease", LeaseKind),
                table!("State of a home", HomeState),
                table!("Step of a cleanup", ActionKind),
                table!("Level of a finding", Level),
            ],
        ),
    ]
}

fn events_of_turns() -> Table {
    let about = "Output of a turn: `sessctl send --stream-json`, `sessctl turns follow \
                 --stream-json`. Times are RFC 3339.";
    events("Events of a turn", about, |event| event.is_of_turn())
}

fn events_of_registry() -> Table {
    let about = "Log of the registry, one event for each change of a session.";
    events("Events of the registry", about, |event| {
        !event.is_of_turn() && event != EventType::Unrecognized
    })
}

fn events(title: &'static str, about: &'static str, is_in: fn(EventType) -> bool) -> Table {
    let entry = |event: EventType| {
        let (meaning, data) = event.meaning_and_data();
        Entry { word: event.as_str(), meaning, note: data.trim_end_matches('.').to_owned() }
    };
    let events = EventType::ALL.iter().copied().filter(|event| is_in(*event));
    Table { title, about, note: "data", entries: events.map(entry).collect() }
}

fn reasons() -> Table {
    let entry = |reason: &Reason| Entry {
        word: reason.as_str(),
        meaning: reason.meaning(),
        note: match reason {
            Reason::Unrecognized => "any".to_owned(),
            reason => reason.status().to_string(),
        },
    };
    Table {
        title: "Reasons of a status",
        about: Reason::ABOUT,
        note: "status",
        entries: Reason::ALL.iter().map(entry).collect(),
    }
}

fn faults() -> Table {
    let entry = |code: &FaultCode| Entry {
        word: code.as_str(),
        meaning: code.meaning(),
        note: match code.may_pass() {
            Some(true) => format!("{}, may pass", code.exit_code()),
            Some(false) => code.exit_code().to_string(),
            None => format!("{}, depends", code.exit_code()),
        },
    };
    Table {
        title: "Fault codes",
        about: "Every failure has a code, a message and often a hint. The exit code is that of \
                `sessctl`. \"May pass\": the same request may succeed later; \"depends\": the \
                fault's `retryable` says so where it is known.",
        note: "exit code",
        entries: FaultCode::ALL.iter().map(entry).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    fn markdown() -> String {
        let mut text = "# Reference\n\nThe words that occur in JSON, in faults and on the command \
                        line. `sessctl help TOPIC` prints the same.\n\nGenerated from the enums of \
                        `sessd-proto`; `UPDATE=1 cargo test -p sessd-proto` rewrites it.\n"
            .to_owned();
        for topic in topics() {
            writeln!(text, "\n## {} (`sessctl help {}`)", topic.title, topic.name).unwrap();
            for table in &topic.tables {
                text += &section(table);
            }
        }
        text
    }

    fn section(table: &Table) -> String {
        let mut text = format!("\n### {}\n\n{}\n\n", table.title, table.about);
        let has_notes = !table.note.is_empty();
        text += &match has_notes {
            true => format!("| word | meaning | {} |\n|---|---|---|\n", table.note),
            false => "| word | meaning |\n|---|---|\n".to_owned(),
        };
        for Entry { word, meaning, note } in &table.entries {
            let note = if has_notes { format!(" {note} |") } else { String::new() };
            writeln!(text, "| `{word}` | {meaning} |{note}").unwrap();
        }
        text
    }

    #[test]
    fn reference_page_matches_the_vocabularies() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, markdown()).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, markdown(), "docs/reference.md is out of date: run with UPDATE=1");
    }

    #[test]
    fn every_meaning_is_one_full_sentence_or_more() {
        for table in topics().into_iter().flat_map(|topic| topic.tables) {
            for Entry { word, meaning, .. } in table.entries {
                assert!(meaning.starts_with(char::is_uppercase), "{word}: {meaning}");
                assert!(meaning.ends_with(['.', ')']), "{word}: {meaning}");
                assert!(!meaning.contains(['|', '\n']), "{word}: {meaning}");
            }
        }
    }
}
