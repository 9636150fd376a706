//! The floors of the registry: a folder may use only the folders below it. Reads source files as
//! text; the structs make the compiler refuse most of it anyway.

use std::collections::BTreeMap;

use super::{Source, product};

/// The floors from top to bottom: folder, struct, and the field that holds it.
const FLOORS: [(&str, &str, &str); 6] = [
    ("turns", "Turns", "turns"),
    ("launch", "Launches", "launches"),
    ("sessions", "Sessions", "sessions"),
    ("discovery", "Discovery", "discovery"),
    ("writers", "Writers", "writers"),
    ("homes", "Homes", "homes"),
];

/// One use of a floor: by a path of modules, or by a call through a field.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Arrow {
    from: usize,
    to: usize,
}

#[test]
fn registry_folders_use_only_the_floors_below() {
    let mut arrows = BTreeMap::<Arrow, usize>::new();
    let mut upward = String::new();
    for (from, source) in files() {
        for (line, to) in uses(&source) {
            if to < from {
                upward += &format!("{}: uses {}: {line}\n", source.name, FLOORS[to].0);
            }
            if to != from {
                *arrows.entry(Arrow { from, to }).or_default() += 1;
            }
        }
    }
    for (Arrow { from, to }, count) in &arrows {
        println!("{:>9} -> {:<9} {count}", FLOORS[*from].0, FLOORS[*to].0);
    }
    println!("upward: {}", upward.lines().count());
    assert!(arrows.len() >= FLOORS.len(), "no arrows found: this test looks at nothing");
    assert!(upward.is_empty(), "\n{upward}");
}

#[test]
fn registry_methods_live_in_the_folder_of_their_struct() {
    let mut misplaced = String::new();
    let mut seen = 0;
    for (floor, source) in files() {
        let name = &source.name;
        for (_, line) in source.code() {
            let is_own =
                |(_, owner, _): &(&str, &str, &str)| line.starts_with(&format!("impl {owner} "));
            if let Some(owner) = FLOORS.iter().position(is_own) {
                seen += 1;
                if owner != floor {
                    misplaced += &format!("{name}: {line} belongs in {}/\n", FLOORS[owner].0);
                }
            }
            if line.starts_with("impl Registry") {
                misplaced += &format!("{name}: a floor has methods on its own struct only\n");
            }
        }
    }
    assert!(seen >= FLOORS.len(), "no methods found: this test looks at nothing");
    assert!(misplaced.is_empty(), "\n{misplaced}");
}

/// The floors that a file uses, with the line that shows it.
fn uses(source: &Source) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (_, line) in source.code() {
        for (to, (folder, _, field)) in FLOORS.iter().enumerate() {
            let by_path = line.contains(&format!("registry::{folder}::"));
            let by_field = line.contains(&format!("self.{field}."));
            if by_path || by_field {
                found.push((line.trim(), to));
            }
        }
    }
    found
}

/// Every file of a floor, with the floor.
fn files() -> Vec<(usize, Source)> {
    let floor = |source: &Source| {
        let rest = source.name.strip_prefix("daemon/src/registry/")?;
        let (folder, _) = rest.split_once('/')?;
        FLOORS.iter().position(|(floor, ..)| *floor == folder)
    };
    product().into_iter().filter_map(|source| Some((floor(&source)?, source))).collect()
}
