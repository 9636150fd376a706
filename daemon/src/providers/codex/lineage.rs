//! The rollouts that forks need. A fork holds only what came after it, so each of its ancestors
//! must exist and be at least as long as it was then. Forks of forks make chains of any length, and
//! many forks share their ancestors: each rollout is read once, however many forks need it. Knows
//! no settings.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use sessd_proto::Reason;

use super::Codex;
use super::discovery::id_in_name;
use super::rollout::{self, Base};
use crate::providers::{Discovery, Home, Listed, Unreadable};

/// The rollouts of a home as ancestors of others.
pub(super) struct Ancestors {
    home: Home,
    all: OnceLock<Result<All, Unreadable>>,
    /// The ancestors that were read, by id.
    known: Mutex<HashMap<String, Ancestor>>,
}

/// All rollouts of a home.
struct All {
    by_id: HashMap<String, Listed>,
    /// The fault of a fork whose ancestor is not listed.
    missing: Reason,
}

/// A rollout that others were forked from.
#[derive(Clone, Copy)]
struct Ancestor {
    /// Its length in unpacked bytes; `None` if it is packed.
    size: Option<u64>,
    /// The reason for which the CLI would refuse every fork of it.
    fault: Option<Reason>,
}

impl Ancestor {
    fn fault(self, base: &Base) -> Option<Reason> {
        let is_shorter = self.size.is_some_and(|size| size < base.end);
        if is_shorter { Some(Reason::LineageBroken) } else { self.fault }
    }
}

impl Ancestors {
    pub(super) fn of(home: &Home) -> Self {
        Self { home: home.clone(), all: OnceLock::new(), known: Mutex::default() }
    }

    /// Returns why the CLI would refuse a fork with this history.
    ///
    /// # Errors
    /// Fails if the home cannot be listed.
    pub(super) fn fault(&self, base: &Base) -> Result<Option<Reason>, Unreadable> {
        let all = self.all.get_or_init(|| All::of(&self.home)).as_ref().map_err(Clone::clone)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // From the fork to its first ancestor that is known, has none, or has a fault.
        let mut chain = Vec::new();
        let mut ids = HashSet::new();
        let mut next = Some(base.clone());
        let fault = loop {
            let Some(base) = next else { break None };
            if let Some(ancestor) = known.get(&base.thread_id) {
                break ancestor.fault(&base);
            }
            if !ids.insert(base.thread_id.clone()) {
                break Some(Reason::LineageBroken);
            }
            let Some(listed) = all.by_id.get(&base.thread_id) else { break Some(all.missing) };
            // The offset counts unpacked bytes.
            let is_packed = listed.location.ends_with(".zst");
            let size = (!is_packed).then_some(listed.stamp.size);
            let read = rollout::origin(Path::new(&listed.location)).ok();
            let Some((None, origin)) = read else { break Some(Reason::LineageBroken) };
            let ancestor = Ancestor { size, fault: None };
            if let Some(fault) = ancestor.fault(&base) {
                break Some(fault);
            }
            chain.push((base.thread_id, ancestor));
            next = origin;
        };
        // All of them lead to it.
        let reached = chain.into_iter().map(|(id, ancestor)| (id, Ancestor { fault, ..ancestor }));
        known.extend(reached);
        Ok(fault)
    }
}

impl All {
    fn of(home: &Home) -> Result<Self, Unreadable> {
        let listing = Codex.list(home)?;
        // An ancestor may be in any folder.
        let missing = match listing.gaps.is_empty() {
            true => Reason::LineageMissing,
            false => Reason::PartUnreadable,
        };
        let named = listing.transcripts.into_iter().rev();
        let named = named.filter_map(|it| Some((id_in_name(&it.location)?.to_owned(), it)));
        Ok(Self { by_id: named.collect(), missing })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::providers::Reader;

    fn id(number: usize) -> String {
        format!("00000000-0000-4000-8000-{number:012}")
    }

    fn path(home: &Home, number: usize) -> std::path::PathBuf {
        let name = format!("rollout-2026-01-01T00-00-00-{}.jsonl", id(number));
        home.path.join("sessions/2026/01/01").join(name)
    }

    /// Writes a chain of forks, each of the one before it.
    fn write(home: &Home, count: usize) {
        fs::create_dir_all(path(home, 0).parent().unwrap()).unwrap();
        for number in 0..count {
            let base = number.checked_sub(1).map(
                |before| serde_json::json!({ "thread_id": id(before), "end_byte_offset": 50 }),
            );
            let payload = serde_json::json!({ "id": id(number), "cwd": "/", "history_base": base,
                "timestamp": "2026-01-01T00:00:00Z", "originator": "o", "cli_version": "1" });
            let meta = serde_json::json!({ "type": "session_meta", "payload": payload,
                "timestamp": "2026-01-01T00:00:00Z" });
            fs::write(path(home, number), format!("{meta}\n")).unwrap();
        }
    }

    fn base(number: usize) -> Base {
        Base { thread_id: id(number), end: 50 }
    }

    #[test]
    fn long_chain_is_followed_and_each_ancestor_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        write(&home, 3_000);
        let ancestors = Ancestors::of(&home);
        assert_eq!(ancestors.fault(&base(2_999)), Ok(None));
        // Nothing is read any more.
        fs::remove_dir_all(home.path.join("sessions")).unwrap();
        for number in (0..3_000).rev() {
            assert_eq!(ancestors.fault(&base(number)), Ok(None));
        }
    }

    #[test]
    fn fault_of_an_ancestor_is_that_of_all_that_follow() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), env: [].into() };
        let faults = |numbers: [usize; 3]| {
            let ancestors = Ancestors::of(&home);
            numbers.map(|number| ancestors.fault(&base(number)).unwrap())
        };
        write(&home, 9);
        fs::remove_file(path(&home, 4)).unwrap();
        let missing = Some(Reason::LineageMissing);
        assert_eq!(faults([8, 5, 3]), [missing, missing, None]);
        assert_eq!(faults([3, 5, 8]), [None, missing, missing]);
        let broken = Some(Reason::LineageBroken);
        fs::write(path(&home, 4), "garbage\n").unwrap();
        assert_eq!(faults([8, 4, 3]), [broken, broken, None]);
        // The ancestor of all is forked from the last.
        write(&home, 9);
        let circle = fs::read_to_string(path(&home, 5)).unwrap().replace(&id(4), &id(8));
        fs::write(path(&home, 5), circle).unwrap();
        assert_eq!(faults([8, 6, 4]), [broken, broken, None]);
        // Shorter than it was when one was forked from it; another fork needs less.
        write(&home, 9);
        let ancestors = Ancestors::of(&home);
        let long = Base { end: 1 << 20, ..base(7) };
        assert_eq!([&long, &base(7)].map(|it| ancestors.fault(it).unwrap()), [broken, None]);
        assert_eq!([&base(7), &long].map(|it| ancestors.fault(it).unwrap()), [None, broken]);
        assert!(Codex.reader(&home).is_some_and(|reader: Box<dyn Reader>| {
            let location = path(&home, 8).to_string_lossy().into_owned();
            let bound = crate::providers::Bound {
                provider_session_id: id(8),
                location,
                ..Default::default()
            };
            reader.check(&bound) == crate::providers::Verdict::ACTIVE
        }));
    }
}
