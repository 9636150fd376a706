//! What the kernel tells about processes. Starts none and ends none.

use std::fs;

/// When a process was started, in clock ticks since boot: with the pid it names one process
/// for good, as pids are used again. `None` if there is no such process, or only its zombie.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, so fields are counted from its closing parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The kernel's name of this boot.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The command line of a process, for people.
#[must_use]
pub fn command(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(200).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_start_and_a_command() {
        assert!(start_ticks(std::process::id()).unwrap() > 0);
        assert!(command(std::process::id()).is_some());
        assert_eq!(start_ticks(u32::MAX), None);
        assert_eq!(boot_id().len(), 36);
    }
}
