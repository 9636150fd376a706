//! Names of files in a form that is the same on every machine and in every run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use uuid::Uuid;

use crate::sandbox::Sandbox;
use crate::tree::files_below;

/// The number of folders down to which names are told.
const DEPTH_MAX: usize = 5;

/// Returns every file of the home but the cache of npm, which some run by themselves.
pub(super) fn all(sandbox: &Sandbox) -> Vec<PathBuf> {
    let npm = sandbox.home().join(".npm");
    files_below(&sandbox.home()).into_iter().filter(|path| !path.starts_with(&npm)).collect()
}

/// Returns the normal form of these files, each once and sorted. What lies deeper than
/// [`DEPTH_MAX`] and is not a transcript is told by its folder.
pub(super) fn normal<'a>(
    sandbox: &Sandbox,
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> Vec<String> {
    let home = sandbox.home();
    let root = home.parent().unwrap_or(&home).display().to_string();
    // Folders that are named by a directory.
    let folder = root.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let normal = |path: &PathBuf| {
        let path = path.strip_prefix(&home).unwrap_or(path).display().to_string();
        let parts: Vec<_> =
            path.split('/').map(|part| word(&part.replace(&folder, "<root>"))).collect();
        if parts.len() > DEPTH_MAX && !path.ends_with(".jsonl") {
            format!("{}/…", parts[..DEPTH_MAX - 1].join("/"))
        } else {
            parts.join("/")
        }
    };
    let names: BTreeSet<_> = paths.into_iter().map(normal).collect();
    names.into_iter().collect()
}

/// Returns a name with its UUIDs replaced, and every run of letters and digits that looks like an
/// id or a time: it has two digits, or is long and has one.
pub(super) fn word(name: &str) -> String {
    let mut normal = String::new();
    let mut run = String::new();
    for c in without_uuids(name).chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() {
            run.push(c);
            continue;
        }
        normal += if is_id(&run) { "<id>" } else { run.as_str() };
        run.clear();
        normal.extend((c != '\0').then_some(c));
    }
    // The parts of a UUID or of a time are one id.
    for joint in ["<id>-<id>", "<id>_<id>", "<id>:<id>", "<id>.<id>"] {
        while normal.contains(joint) {
            normal = normal.replace(joint, "<id>");
        }
    }
    normal
}

fn is_id(run: &str) -> bool {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    digits >= 2 || (run.len() >= 8 && digits == 1)
}

fn without_uuids(name: &str) -> String {
    const LENGTH: usize = 36;
    let mut rest = name;
    let mut normal = String::new();
    while let Some(c) = rest.chars().next() {
        let is_uuid = rest.get(..LENGTH).is_some_and(|it| Uuid::try_parse(it).is_ok());
        normal += if is_uuid { "<id>" } else { &rest[..c.len_utf8()] };
        rest = &rest[if is_uuid { LENGTH } else { c.len_utf8() }..];
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn names_are_the_same_in_every_run() {
        assert_eq!(word("6f1e2d3c-1111-4aaa-8bbb-000000000001.jsonl"), "<id>.jsonl");
        assert_eq!(word("rollout-2026-12-01T00-14-43-0199a1b2-7000.jsonl"), "rollout-<id>.jsonl");
        assert_eq!(word("12345.json"), "<id>.json");
        assert_eq!(word("state_5.sqlite-wal"), "state_5.sqlite-wal");
        assert_eq!(word("output-language.md"), "output-language.md");
    }
}
