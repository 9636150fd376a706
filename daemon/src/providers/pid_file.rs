//! Files in which a running CLI says which session it has open. They outlive a kill, and a pid in
//! them may have been given to another process. Knows no provider.

use std::fs;
use std::path::Path;

use sessd_proto::{Live, LiveState, Timestamp};

use super::Stamp;
use crate::process::{self, Fate, Recorded};

/// Returns the live state that such a file stands for: `open` while the process that wrote it runs,
/// `unknown` if it is out of our sight. `None` if it has ended.
#[must_use]
pub fn live(recorded: &Recorded, since: Option<Timestamp>) -> Option<Live> {
    match recorded.fate() {
        Fate::Ended => None,
        Fate::OutOfSight => Some(Live::default()),
        Fate::Runs => Some(Live {
            state: LiveState::Open,
            pid: Some(recorded.pid),
            what: process::command(recorded.pid),
            since,
        }),
    }
}

/// Returns the time of a file's last change, in milliseconds since the epoch.
#[must_use]
pub fn modified_ms(path: &Path) -> Option<i64> {
    Some(Stamp::of(&fs::metadata(path).ok()?).mtime_ns / 1_000_000)
}

/// Returns the inode number in the name of a pid namespace, `pid:[4026531836]`.
#[must_use]
pub fn namespace(name: &str) -> Option<u64> {
    name.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_of_another_namespace_is_neither_there_nor_gone() {
        let mut recorded = Recorded { pid: std::process::id(), ..Recorded::default() };
        assert_eq!(live(&recorded, None).unwrap().state, LiveState::Open);
        recorded.namespace = namespace("pid:[1]");
        assert_eq!(live(&recorded, None), Some(Live::default()));
        assert_eq!(namespace("pid:4"), None);
        recorded = Recorded { pid: u32::MAX, ..Recorded::default() };
        assert_eq!(live(&recorded, None), None);
    }
}
