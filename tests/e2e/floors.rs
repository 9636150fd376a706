//! The floors of the registry: a folder may use only the folders below it. Reads source files as
//! text; the structs make the compiler refuse most of it anyway.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sessd_tests::tree::files_below;

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
    for (from, file, code) in files() {
        for (line, to) in uses(&code) {
            if to < from {
                upward += &format!("{file}: uses {}: {line}\n", FLOORS[to].0);
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
    for (floor, file, code) in files() {
        for (owner, (_, name, _)) in FLOORS.iter().enumerate() {
            let opens = code.lines().filter(|line| line.starts_with(&format!("impl {name} ")));
            for _ in opens {
                seen += 1;
                if owner != floor {
                    misplaced +=
                        &format!("{file}: `impl {name}` belongs in {}/\n", FLOORS[owner].0);
                }
            }
        }
        if code.lines().any(|line| line.starts_with("impl Registry")) {
            misplaced += &format!("{file}: a floor has methods on its own struct only\n");
        }
    }
    assert!(seen >= FLOORS.len(), "no methods found: this test looks at nothing");
    assert!(misplaced.is_empty(), "\n{misplaced}");
}

/// The floors that a file uses, with the line that shows it.
fn uses(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
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

/// Every file of a floor without its unit tests: its floor, its path, its code.
fn files() -> Vec<(usize, String, String)> {
    let registry = root().join("daemon/src/registry");
    let mut files = Vec::new();
    for (floor, (folder, _, _)) in FLOORS.iter().enumerate() {
        for path in files_below(&registry.join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            files.push((floor, path.display().to_string(), code.to_owned()));
        }
    }
    files
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace above its member").to_owned()
}
