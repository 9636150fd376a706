//! What the kernel tells about processes, and the one thing we may ask of them. Starts none.

use std::fs;

use rustix::process::{
    Pid, Signal, getpgid, kill_process, kill_process_group, test_kill_process_group,
};

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

/// True if a process descends from another one.
#[must_use]
pub fn is_below(pid: u32, ancestor: u32) -> bool {
    std::iter::successors(parent(pid), |pid| parent(*pid)).any(|parent| parent == ancestor)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok().filter(|parent| *parent > 0)
}

/// Asks a process to end, with the group that it leads, if it does.
pub fn ask_to_end(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // Some launchers pass no signal on; a shell's job leads its own group.
    let leads = getpgid(Some(pid)) == Ok(pid);
    let _ =
        if leads { kill_process_group(pid, Signal::TERM) } else { kill_process(pid, Signal::TERM) };
}

/// True while a group that was led by this process has members.
#[must_use]
pub fn has_group(leader: u32) -> bool {
    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    leader.is_some_and(|leader| test_kill_process_group(leader).is_ok())
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
        assert!(is_below(std::process::id(), 1) && !is_below(1, std::process::id()));
    }
}
